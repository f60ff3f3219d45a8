"""The latest frame as a JPEG for whoever looks: encoded once for all of them, and only while somebody does."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import cv2

from edge_apps.images import Image

EVERY = 0.1
"""Seconds between two pictures, at least."""

QUALITY = 80
"""Of the JPEG, in percent."""

Shown = TypeVar("Shown")


class Preview(Generic[Shown]):
    """One slot for the latest frame, one for the latest JPEG, and the thread that makes the second of the first.

    Nothing is queued anywhere: who is slow, the encoder or a viewer, misses frames and holds up nobody.
    """

    def __init__(
        self, draw: Callable[[Shown], Image], failed: Callable[[Exception], None], every: float = EVERY
    ) -> None:
        """``draw`` makes a BGR picture of what was offered; ``failed`` hears, once, that this or encoding failed."""
        self._draw, self._failed, self._every = draw, failed, every
        self._latest: tuple[int, Shown] | None = None
        self._offered = 0
        self._viewers = 0
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._has_failed = False
        self._told: tuple[Callable[[], None], ...] = ()
        self._thread = threading.Thread(target=self._work, name="preview", daemon=True)
        self.jpeg: tuple[int, bytes, Shown] | None = None
        """Number of the frame it shows, counted from 1 over all that were offered, its bytes, and the frame itself."""

    @property
    def viewers(self) -> int:
        """How many look."""
        return self._viewers

    @property
    def offered(self) -> int:
        """Number of the latest frame; 0 before the first."""
        return self._offered

    def offer(self, shown: Shown) -> None:
        """A frame to show, instead of the one before it. Costs the caller under two microseconds."""
        self._offered += 1
        self._latest = (self._offered, shown)
        if self._viewers:
            self._wake.set()

    @contextlib.contextmanager
    def watch(self) -> Iterator[None]:
        """Somebody looks while the block runs: ``jpeg`` follows the frames."""
        with self._lock:
            self._viewers += 1
        self._wake.set()
        try:
            yield
        finally:
            with self._lock:
                self._viewers -= 1

    @contextlib.contextmanager
    def telling(self, somebody: Callable[[], None]) -> Iterator[None]:
        """While the block runs, call ``somebody`` after every new JPEG, in the encoder's thread; it must not raise."""
        self._told = (*self._told, somebody)
        try:
            yield
        finally:
            self._told = tuple(one for one in self._told if one is not somebody)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self) -> None:
        """Wait for the picture that is being encoded, and end."""
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def _work(self) -> None:
        while True:
            self._wake.wait()
            if self._stop.is_set():
                return
            self._wake.clear()
            began = time.monotonic()
            latest = self._latest
            if latest is not None and self._viewers and (self.jpeg is None or self.jpeg[0] != latest[0]):
                self._encode(*latest)
            self._stop.wait(max(0.0, self._every - (time.monotonic() - began)))

    def _encode(self, number: int, shown: Shown) -> None:
        try:
            done, data = cv2.imencode(".jpg", self._draw(shown), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
            if not done:
                raise ValueError("the picture cannot be encoded")
        except Exception as error:  # whatever it is, the camera goes on without a picture
            if not self._has_failed:
                self._has_failed = True
                self._failed(error)
            return
        self.jpeg = (number, data.tobytes(), shown)
        for somebody in self._told:
            somebody()
