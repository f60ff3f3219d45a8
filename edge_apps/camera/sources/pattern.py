"""The test pattern: a source that every machine has."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator

import cv2
import numpy as np

from edge_apps.camera.capture.frames import Frame, Item, never, now, waited
from edge_apps.camera.capture.turn import Turn
from edge_apps.images import Image


class TestPattern:
    """Colours that move without end; frame *n* is the same everywhere and every time.

    As fast as frames are asked for, or at most ``fps`` of them a second.
    """

    __test__ = False  # not a test case, whatever pytest thinks of the name
    has_names = False
    text = "test-pattern"
    length = None

    step = 4
    """Pixels per frame."""

    def __init__(
        self,
        size: tuple[int, int] = (640, 480),
        fps: float | None = None,
        turn: Turn = Turn(),  # noqa: B008 - immutable
    ) -> None:
        self.width, self.height = size
        self.stop: Callable[[], bool] = never
        self._fps, self._turn = fps, turn
        hue = np.linspace(0, 180, self.width, endpoint=False).astype(np.uint8)
        saturation = np.linspace(255, 64, self.height).astype(np.uint8)
        hsv = np.full((self.height, self.width, 3), 255, np.uint8)
        hsv[..., 0] = hue
        hsv[..., 1] = saturation[:, None]
        self._rainbow: Image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)  # type: ignore[assignment]

    def __iter__(self) -> Iterator[Item]:
        due = time.monotonic()
        for sequence in itertools.count():
            if self._fps is not None:
                if not waited(due - time.monotonic(), self.stop):
                    return
                due = max(due + 1 / self._fps, time.monotonic())  # who came late does not hurry afterwards
            image = self._turn(self.image(sequence))
            yield Frame(sequence, f"pattern#{sequence}", *now(), 0, image)

    def image(self, sequence: int) -> Image:
        """Frame number ``sequence``: a rainbow that wanders to the right, a white square that falls."""
        image: Image = np.roll(self._rainbow, self.step * sequence, axis=1)
        side = min(80, self.width // 2, self.height // 2)
        top = self.step * sequence % (self.height - side)
        left = (self.width - side) // 2
        image[top : top + side, left : left + side] = 255
        return image
