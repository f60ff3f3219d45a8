"""Another model without a pause: a new bundle is verified and warmed beside the old one, then takes its place.

A thread looks at the model's path now and then. The loop asks for the current classifier before each frame; the moment
it gets another one, the old one is closed by the loop itself, which is the only user of both.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from edge_apps.camera.inference.loop import Classifier
from edge_apps.camera.sources.parse import Event
from edge_apps.errors import EdgeError, first_line
from edge_apps.images import printable
from edge_apps.runtime.manifest import MANIFEST, load_bundle
from edge_apps.runtime.signature import signature_of
from edge_apps.settings import as_options

LOOK_EVERY = 1.0
"""Seconds between two looks at the model's path."""

State = tuple[tuple[str, int, int, int], ...]
"""Of each file its name, inode, size and time."""

LAST_WAIT = 0.5
"""Seconds for a model that is being opened when the run ends; what comes later is closed unused."""

SETTLED = 2
"""Looks that must agree before a changed path is opened: a copy may still be under way."""


class Models:
    """The classifier in use, and the next one where there is one."""

    def __init__(self, first: Classifier) -> None:
        self._current = first
        self._next: Classifier | None = None
        self._is_closed = False
        self._lock = threading.Lock()

    def take(self) -> Classifier:
        """The one for the next frame. Whoever takes another one than before closes the old one."""
        with self._lock:
            if self._next is not None:
                self._current, self._next = self._next, None
            return self._current

    def offer(self, classifier: Classifier) -> None:
        """Use this one from the next frame on; one that was offered before and never taken is closed."""
        with self._lock:
            unused, self._next = (classifier, None) if self._is_closed else (self._next, classifier)
        if unused is not None:
            unused.runner.close()

    def close(self) -> None:
        """Nothing is taken any more: what is offered, now or later, is closed."""
        with self._lock:
            self._is_closed = True
            unused, self._next = self._next, None
        if unused is not None:
            unused.runner.close()


class Watcher:
    """Opens the model again when its path has changed; use it in a ``with`` block.

    ``prepare`` opens, verifies and warms; ``offer`` gets what it made. Where it fails the old model stays, and ``tell``
    gets an Event that says why.
    """

    def __init__(
        self,
        path: Path,
        prepare: Callable[[], Classifier],
        offer: Callable[[Classifier], None],
        tell: Callable[[Event], None],
        *,
        seen: State,
        every: float = LOOK_EVERY,
    ) -> None:
        self._path, self._prepare, self._offer, self._tell, self._every = path, prepare, offer, tell, every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="model watcher", daemon=True)
        self._seen = seen

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(LAST_WAIT)

    def _watch(self) -> None:
        looked, agreed = self._seen, 0
        while not self._stop.wait(self._every):
            state = state_of(self._path)
            agreed = agreed + 1 if state == looked else 1
            looked = state
            if state != self._seen and agreed >= SETTLED:
                self._seen = state
                self._open_again()

    def _open_again(self) -> None:
        try:
            classifier = self._prepare()
        except Exception as error:  # whatever is wrong with the new one, the old one goes on
            # The log, the page and JSON lines record it for whoever typed the options.
            reason = as_options(printable(first_line(error)))
            self._tell(
                Event(time.time(), "model-refused", f"The changed model is not used; the old one stays. {reason}")
            )
        else:
            self._offer(classifier)


def state_of(path: Path) -> State:
    """What changes when a model or a bundle is replaced, edited or removed."""
    states = []
    for file in _looked_at(path):
        with suppress(OSError):
            about = file.stat()
            states.append((file.name, about.st_ino, about.st_size, about.st_mtime_ns))
    return tuple(states)


def _looked_at(path: Path) -> list[Path]:
    """A bundle's manifest, its signature, and the models it lists: what else lies in its folder, as a log, is not ours.

    Of a file also the manifest beside it, to which it is held where it lies in a bundle; of a link also the one beside
    what it leads to.
    """
    if not path.is_dir():
        return [path, *_manifest_of(path.parent), *_manifest_of(Path(os.path.realpath(path)).parent)]
    try:
        bundle = load_bundle(path)
    except EdgeError:  # not yet, not any more, or a folder that is a model itself
        return [path / MANIFEST] if (path / MANIFEST).exists() else _files_of(path)
    return [*_manifest_of(path), *(file for model in bundle.models() for file in _files_of(path / model.path))]


def _manifest_of(root: Path) -> list[Path]:
    return [root / MANIFEST, signature_of(root / MANIFEST)]


def _files_of(path: Path) -> list[Path]:
    """The file, or those of a folder."""
    if not path.is_dir():
        return [path]
    with suppress(OSError):
        return sorted(entry for entry in path.rglob("*") if entry.is_file())
    return []
