"""Register the runtimes by the suffix of the files that they run, and open a file's bytes with the right one.

A runtime is one file beside this one. It calls ``register_runner`` when it is imported and imports its library
only when a file is opened, so that looking for runtimes costs nothing and a missing one says what to install.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

import edge_apps.runtime
from edge_apps.errors import BadInput, BadManifest
from edge_apps.runtime.content import Content
from edge_apps.runtime.manifest import FileManifest


class Runner(Protocol):
    """An opened file. Not safe to share between threads: open one for each."""

    @property
    def path(self) -> Path:
        """The file."""

    @property
    def manifest(self) -> FileManifest:
        """What the file says of itself."""

    @property
    def runtime(self) -> str:
        """Library and version, as ``ai-edge-litert 2.3.0``."""

    @property
    def threads(self) -> int:
        """Threads that one inference uses."""

    def run(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return what the network answers, float32 ``[N, K]``, for raw RGB bytes uint8 ``[N, H, W, 3]``.

        Those are logits, and softmax is post-processing, unless ``manifest.output`` says that they are probabilities.
        """

    def close(self) -> None:
        """Give the runtime's memory back."""


RunnerFactory = Callable[[Content, int], Runner]

_factories: dict[str, RunnerFactory] = {}
_without_xnnpack: dict[str, RunnerFactory] = {}
_side_by_side: set[str] = set()
_can_crash: set[str] = set()
_elsewhere: dict[str, Callable[[], str | None]] = {}


def register_runner(
    suffix: str,
    factory: RunnerFactory,
    *,
    side_by_side: bool = False,
    can_crash: bool = False,
    without_xnnpack: RunnerFactory | None = None,
    elsewhere: Callable[[], str | None] = lambda: None,
) -> None:
    """Say that files with this suffix (``.pte``) are opened by ``factory(content, threads)``.

    ``side_by_side``: several runners of one file gain by working in threads at the same time, because the runtime
    gives the interpreter lock back while it computes. ``without_xnnpack`` opens them for the runtime's own kernels,
    where XNNPACK is a choice of the one who runs a file and not of the one who made it. ``elsewhere`` says why this
    machine cannot run such files at all, if it cannot. ``can_crash``: damaged bytes can end the process, so that those
    that nobody vouches for are tried out in another one first.
    """
    _factories[suffix] = factory
    _elsewhere[suffix] = elsewhere
    if without_xnnpack is not None:
        _without_xnnpack[suffix] = without_xnnpack
    if side_by_side:
        _side_by_side.add(suffix)
    if can_crash:
        _can_crash.add(suffix)


def runs_side_by_side(suffix: str) -> bool:
    """Whether to spread many images over several one-thread runners of a file, not over one runner's threads."""
    return suffix in known_suffixes() and suffix in _side_by_side


def needs_trial(suffix: str) -> bool:
    """Whether damaged bytes could end the process that runs them here."""
    return suffix in known_suffixes() and suffix in _can_crash and runs_elsewhere(suffix) is None


def runs_elsewhere(suffix: str) -> str | None:
    """Why this machine cannot run files with this suffix, whatever is installed; None where it can."""
    return _elsewhere[suffix]() if suffix in known_suffixes() and suffix in _elsewhere else None


def known_suffixes() -> tuple[str, ...]:
    """Every suffix that has a runtime, installed or not."""
    _discover()
    return tuple(sorted(_factories))


def open_content(content: Content, threads: int, *, xnnpack: bool = True) -> Runner:
    """Open the bytes of an exported file as they are, whatever is on disk by now.

    Bytes that nobody vouches for can crash the runtime: ``edge_apps.runtime.runner.open_runner`` reads files with care.

    Raises:
        BadInput: unknown suffix, a foreign file, one that has no other kernels. MissingExtra: the runtime is not
            installed. NotRunHere: this machine cannot run such files at all. BadManifest: the file does not describe
            itself.
    """
    check_suffix(content.path)
    if not xnnpack and content.suffix not in _without_xnnpack:
        raise BadInput(
            f"'{content.path}' cannot be run without XNNPACK: for {content.suffix} that was decided when it was "
            f"exported. Only {', '.join(sorted(_without_xnnpack))} leaves the choice to whoever runs it."
        )
    return (_factories if xnnpack else _without_xnnpack)[content.suffix](content, threads)


def check_suffix(path: Path) -> None:
    """Refuse a file for which there is no runtime; ``BadInput``."""
    if path.suffix not in known_suffixes():
        raise BadInput(f"Cannot run '{path}': no runtime for '{path.suffix}'. Known: {', '.join(known_suffixes())}.")


def check_batch(batch: NDArray[np.uint8], manifest: FileManifest) -> None:
    """Refuse anything but raw bytes of the size the file takes; a runtime would read them as something else."""
    expected = (manifest.preprocess.height, manifest.preprocess.width, 3)
    if batch.dtype != np.uint8 or batch.ndim != 4 or batch.shape[1:] != expected:
        raise BadInput(
            f"Input is {batch.dtype} {list(batch.shape)}; '{manifest.model}' takes uint8 [N, {str(expected)[1:-1]}]."
        )


def check_outputs(outputs: int, manifest: FileManifest, path: Path) -> None:
    """Refuse a file that computes another number of logits than it has labels."""
    if outputs != len(manifest.labels):
        raise BadManifest(
            f"'{path}' computes {outputs} logits but names {len(manifest.labels)} labels: export it again."
        )


def _discover() -> None:
    for module in pkgutil.iter_modules(edge_apps.runtime.__path__):
        importlib.import_module(f"{edge_apps.runtime.__name__}.{module.name}")
