"""Keeps the frames in which a chosen label was seen as JPEG files, written by a thread: a slow card stops no frame."""

from __future__ import annotations

import queue
import re
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

import cv2

from edge_apps.camera.inference.loop import Outcome, Result
from edge_apps.camera.inference.sink import Sink
from edge_apps.camera.sources.parse import Event
from edge_apps.errors import BadInput, first_line
from edge_apps.files import check_writable, write_whole
from edge_apps.images import Image

QUALITY = 92
LAST_WAIT = 1.0
"""Seconds for the pictures that still wait when the run ends; a card that hangs must not keep the program."""

WAITING = 4
"""Pictures that may wait for the card; beyond that a frame is not kept, and counted."""


@dataclass(frozen=True)
class SnapshotOptions:
    """Which frames are kept: those decided to be one of ``labels``, one in ``every`` seconds, ``most`` in all."""

    folder: Path
    labels: tuple[str, ...]
    every: float = 10.0
    most: int = 1000


class Snapshots(Sink):
    """Takes pictures; use it in a ``with`` block.

    ``taken`` are handed to the thread, ``kept`` are files, ``failed`` could not be written, ``missed`` found too many
    waiting.

    ``tell`` hears of what could not be written, once for each kind of fault, and when the last picture was taken.
    """

    def __init__(self, options: SnapshotOptions, tell: Callable[[Event], None]) -> None:
        self._options, self._tell = options, tell
        self.taken = self.kept = self.failed = self.missed = 0
        self._last_ns: int | None = None
        self._is_ending = False
        self._faults: set[str] = set()
        self._waiting: queue.Queue[tuple[str, Image] | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._write, name="snapshots", daemon=True)

    def __enter__(self) -> Snapshots:
        check_writable(self._options.folder / "snapshot.jpg")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_ending = True
        with suppress(queue.Full):  # a thread that still works looks at the flag
            self._waiting.put_nowait(None)
        self._thread.join(LAST_WAIT)
        missed = self.missed + self.taken - self.kept
        if missed:
            self._tell(Event(time.time(), "snapshot", f"{missed} snapshots were not kept; {self.kept} were."))

    def add(self, item: Outcome) -> None:
        if isinstance(item, Result):
            self.see(item)

    def see(self, result: Result) -> None:
        """Keep this frame if it is one to keep."""
        options = self._options
        if result.decision not in options.labels or result.image is None or self._good >= options.most:
            return
        now = time.perf_counter_ns()
        if self._last_ns is not None and now - self._last_ns < options.every * 1e9:
            return
        try:
            self._waiting.put_nowait((name_of(result), result.image))
        except queue.Full:
            self.missed += 1
            return
        self._last_ns = now
        self.taken += 1

    @property
    def _good(self) -> int:
        """Files, and what may still become one."""
        return self.taken - self.failed

    def _write(self) -> None:
        while (item := self._waiting.get()) is not None:
            name, image = item
            try:
                write_whole(self._options.folder / name, jpeg(image))
                self.kept += 1
                if self.kept == self._options.most:
                    self._say(f"{self.kept} snapshots are taken: no more in this run.")
            except Exception as error:
                self.failed += 1
                self._say(f"A snapshot is not kept: {first_line(error)}", kind=first_line(error).replace(name, ""))
            if self._is_ending and self._waiting.empty():
                return

    def _say(self, reason: str, kind: str | None = None) -> None:
        """Once for each ``kind``, without which every reason is one."""
        kind = reason if kind is None else kind
        if kind not in self._faults:
            self._faults.add(kind)
            self._tell(Event(time.time(), "snapshot", reason))


def name_of(result: Result) -> str:
    """``20261120T231500.123Z_000042_cat_87.jpg``: when, which frame, what, how sure in percent."""
    at = datetime.fromtimestamp(result.captured_at, timezone.utc).strftime("%Y%m%dT%H%M%S.%f")[:-3]
    label, probability = result.shown[0]
    plain = re.sub(r"[^\w-]+", "-", label)[:40]
    return f"{at}Z_{result.sequence:06d}_{plain}_{probability * 100:.0f}.jpg"


def jpeg(image: Image) -> bytes:
    """A uint8 ``[H, W, 3]`` RGB picture as JPEG."""
    ok, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not ok:
        raise BadInput(f"A frame of shape {image.shape} cannot be a JPEG.")
    return data.tobytes()


def snapshot_options(
    folder: Path | None, labels: Sequence[str], every: float | None, most: int | None
) -> SnapshotOptions | None:
    """What was asked for on the command line; None where nothing was.

    Raises:
        BadInput: one of the options without the others that it needs.
    """
    if folder is None:
        given = {"snapshot_on": labels, "snapshot_every": every is not None, "snapshot_most": most is not None}
        lonely = [name for name, is_given in given.items() if is_given]
        if lonely:
            raise BadInput(f"`{lonely[0]}` needs a folder to keep pictures in: add `snapshot`.")
        return None
    if not labels:
        raise BadInput("`snapshot` needs to know which label to wait for: add `snapshot_on`.")
    defaults = SnapshotOptions(folder, tuple(labels))
    return replace(
        defaults,
        every=defaults.every if every is None else every,
        most=defaults.most if most is None else most,
    )


def check_labels(asked: Sequence[str], labels: Sequence[str]) -> None:
    """Refuse a label to wait for that this model never gives; ``BadInput``."""
    unknown = [label for label in asked if label not in labels]
    if unknown:
        known = ", ".join(labels[:10]) + (f" and {len(labels) - 10} more" if len(labels) > 10 else "")
        raise BadInput(f"`snapshot_on` names '{unknown[0]}', which this model does not know. It knows: {known}.")
