"""The latest frame as a JPEG for whoever looks."""

import threading
import time
from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from edge_apps.camera.live.preview import Preview


class Easel:
    """A preview of plain grey pictures, that remembers what was drawn and what failed."""

    def __init__(self) -> None:
        self.drawn: list[int] = []
        self.failed: list[Exception] = []
        self.told = threading.Event()
        self.preview: Preview[int] = Preview(self.draw, self.failed.append, every=0.01)

    def draw(self, grey: int) -> np.ndarray:
        self.drawn.append(grey)
        if grey < 0:
            raise ValueError("darker than black")
        return np.full((24, 32, 3), grey, np.uint8)

    def wait(self, number: int) -> bytes:
        """The JPEG of this frame."""
        end = time.monotonic() + 20
        while self.preview.jpeg is None or self.preview.jpeg[0] != number:
            assert time.monotonic() < end
            time.sleep(0.005)
        return self.preview.jpeg[1]


@pytest.fixture
def easel() -> Iterator[Easel]:
    easel = Easel()
    easel.preview.start()
    yield easel
    easel.preview.stop()


def test_a_viewer_gets_the_latest_frame(easel: Easel) -> None:
    easel.preview.offer(40)
    with easel.preview.watch():
        easel.wait(1)
        easel.preview.offer(200)
        picture = cv2.imdecode(np.frombuffer(easel.wait(2), np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (24, 32, 3)
    assert abs(int(picture.mean()) - 200) <= 2


def test_nothing_is_encoded_while_nobody_looks(easel: Easel) -> None:
    for grey in range(50):
        easel.preview.offer(grey)
    time.sleep(0.1)
    assert easel.drawn == []
    with easel.preview.watch():
        easel.wait(50)
    count = len(easel.drawn)
    for grey in range(50):
        easel.preview.offer(grey)
    time.sleep(0.1)
    assert len(easel.drawn) == count
    assert easel.preview.viewers == 0


def test_one_frame_is_encoded_once_for_all_viewers(easel: Easel) -> None:
    with easel.preview.watch(), easel.preview.watch(), easel.preview.watch():
        assert easel.preview.viewers == 3
        easel.preview.offer(7)
        easel.wait(1)
        time.sleep(0.1)
    assert easel.drawn == [7]


def test_frames_between_two_pictures_are_left_out(easel: Easel) -> None:
    with easel.preview.watch():
        for grey in range(200):
            easel.preview.offer(grey)
        easel.wait(200)
    assert easel.drawn[-1] == 199
    assert len(easel.drawn) < 100


def test_everybody_who_asked_is_told(easel: Easel) -> None:
    with easel.preview.telling(easel.told.set), easel.preview.watch():
        easel.preview.offer(1)
        assert easel.told.wait(20)
        easel.wait(1)
    easel.told.clear()
    with easel.preview.watch():
        easel.preview.offer(2)
        easel.wait(2)
    assert not easel.told.is_set()


def test_a_picture_that_cannot_be_drawn_is_told_once_and_the_next_one_is_shown(easel: Easel) -> None:
    with easel.preview.watch():
        for _ in range(2):
            easel.preview.offer(-1)
            time.sleep(0.1)
        easel.preview.offer(5)
        easel.wait(3)
    assert [str(error) for error in easel.failed] == ["darker than black"]


def test_it_stops_though_nothing_ever_came() -> None:
    easel = Easel()
    easel.preview.start()
    easel.preview.stop()
    assert not easel.preview._thread.is_alive()
    Easel().preview.stop()  # never started
