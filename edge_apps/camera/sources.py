"""Where frames come from: a folder or tar of pictures, a video file, a test pattern.

A source is iterated once. It gives frames in order, and in their place a ``Skipped`` for what could not be read:
one bad picture must not end a program that runs for weeks.
"""

from __future__ import annotations

import difflib
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from edge_apps.errors import BadImage, BadInput
from edge_apps.images import Image, decode, list_pictures, printable


@dataclass(frozen=True)
class Frame:
    """One picture as the source gave it: ``image`` uint8 ``[H, W, 3]`` RGB."""

    sequence: int  # counts from 0 over frames and skipped ones, on through every loop
    name: str
    captured_at: float  # wall clock when the picture was there, seconds since 1970 UTC
    born_ns: int  # the same moment by time.perf_counter_ns, which all processes of a machine share
    decode_ns: int  # of the time until the frame was handed over: decoding and converting
    image: Image


@dataclass(frozen=True)
class Skipped:
    """What stands in the place of a frame that gave no result: ``kind`` for programs, ``reason`` for people."""

    sequence: int
    name: str
    at: float  # wall clock, seconds since 1970 UTC
    kind: str
    reason: str


@dataclass(frozen=True)
class Event:
    """Something that happened to the source itself, such as a camera that was lost: ``kind`` for programs."""

    at: float  # wall clock, seconds since 1970 UTC
    kind: str
    reason: str


Item = Frame | Skipped | Event
"""What a source gives."""


class Source(Protocol):
    """Frames in order."""

    @property
    def text(self) -> str:
        """The source as the user wrote it."""

    @property
    def has_names(self) -> bool:
        """Whether each frame is a picture with a name of its own, that people want to read beside its label."""

    @property
    def length(self) -> int | None:
        """How many frames there are, as far as one can know: None for one that does not end."""

    def __iter__(self) -> Iterator[Item]: ...


def parse_source(text: str, loop: bool = False) -> Source:
    """Make a source of ``folder:PATH``, ``video:PATH`` or ``test-pattern``; ``loop`` starts again at the end.

    Raises:
        BadInput: an unknown kind, a path that holds nothing to show, or a loop over what never ends.
    """
    kind, colon, rest = text.partition(":")
    if kind not in (*_OF_A_PATH, "test-pattern"):
        raise _unknown(text, kind)
    if kind in _OF_A_PATH:
        if not rest:
            raise BadInput(f"'{text}' names no path: write {kind}:PATH.")
        return _OF_A_PATH[kind](Path(rest), printable(text), loop)
    if colon:
        raise BadInput(f"'{text}': the test pattern takes no argument; write 'test-pattern'.")
    if loop:
        raise BadInput("A test pattern never ends: --loop has no meaning for it. Leave it out.")
    return TestPattern()


class Folder:
    """Every picture below a folder or in a tar, in name order."""

    has_names = True

    def __init__(self, path: Path, text: str, loop: bool) -> None:
        self.text = text
        self._loop = loop
        self._pictures = list_pictures(path)
        self.length = None if loop else len(self._pictures)

    def __iter__(self) -> Iterator[Item]:
        return _repeated(self._once, self._loop)

    def _once(self, start: int) -> Iterator[Item]:
        for index in range(len(self._pictures)):
            name = self._pictures.item_name(index)
            try:
                data = self._pictures.encoded(index)
                at, born = now()
                image = decode(data, name)
            except BadImage as error:
                yield Skipped(start + index, name, time.time(), "corrupt", printable(str(error)))
            else:
                yield Frame(start + index, name, at, born, time.perf_counter_ns() - born, image)


class Video:
    """Every frame of a video file, as fast as they can be decoded."""

    has_names = False

    def __init__(self, path: Path, text: str, loop: bool) -> None:
        self.text = text
        self._path, self._loop = path, loop
        if not path.is_file():
            raise BadInput(f"No such video file: '{path}'.")
        capture = self._open()
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        capture.release()
        self.length = count if count > 0 and not loop else None  # many formats do not say, or guess

    def __iter__(self) -> Iterator[Item]:
        return _repeated(self._once, self._loop)

    def _once(self, start: int) -> Iterator[Item]:
        capture = self._open()
        try:
            for index in itertools.count():
                there, picture = capture.read()
                if not there:
                    return
                at, born = now()
                image: Image = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)  # type: ignore[assignment]
                decoded = time.perf_counter_ns() - born
                yield Frame(start + index, f"{printable(self._path.name)}#{index}", at, born, decoded, image)
        finally:
            capture.release()

    def _open(self) -> cv2.VideoCapture:
        capture = cv2.VideoCapture(str(self._path))
        if not capture.isOpened():
            raise BadInput(f"'{self._path}' is no video that OpenCV {cv2.__version__} can decode, or it is damaged.")
        return capture


class TestPattern:
    """Colours that move without end; frame *n* is the same everywhere and every time."""

    __test__ = False  # not a test case, whatever pytest thinks of the name
    has_names = False
    text = "test-pattern"
    length = None

    height, width = 480, 640
    step = 4
    """Pixels per frame."""

    def __init__(self) -> None:
        hue = np.linspace(0, 180, self.width, endpoint=False).astype(np.uint8)
        saturation = np.linspace(255, 64, self.height).astype(np.uint8)
        hsv = np.full((self.height, self.width, 3), 255, np.uint8)
        hsv[..., 0] = hue
        hsv[..., 1] = saturation[:, None]
        self._rainbow: Image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)  # type: ignore[assignment]

    def __iter__(self) -> Iterator[Item]:
        for sequence in itertools.count():
            image = self.image(sequence)
            yield Frame(sequence, f"pattern#{sequence}", *now(), 0, image)

    def image(self, sequence: int) -> Image:
        """Frame number ``sequence``: a rainbow that wanders to the right, a white square that falls."""
        image: Image = np.roll(self._rainbow, self.step * sequence, axis=1)
        top = self.step * sequence % (self.height - 80)
        image[top : top + 80, 280:360] = 255
        return image


def now() -> tuple[float, int]:
    """This moment by both clocks of a frame: the wall's, and the one that never jumps."""
    return time.time(), time.perf_counter_ns()


def _repeated(once: Callable[[int], Iterator[Item]], loop: bool) -> Iterator[Item]:
    """One pass, or pass after pass with the sequence running on, until a pass gives no frame at all."""
    start = 0
    while True:
        frames, following = 0, start
        for item in once(start):
            frames += isinstance(item, Frame)
            if not isinstance(item, Event):
                following = item.sequence + 1
            yield item
        if not loop or not frames:
            return
        start = following


def _unknown(text: str, kind: str) -> BadInput:
    """Only the kind is repeated: what follows the colon may hold a password."""
    path = Path(text)
    near = difflib.get_close_matches(kind, (*_OF_A_PATH, "test-pattern"), n=1)
    if path.exists():
        near = [f"{'folder' if path.is_dir() or path.suffix == '.tar' else 'video'}:{text}"]
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return BadInput(f"Unknown source '{printable(kind)}'.{hint} Known: {KNOWN}.")


_OF_A_PATH: dict[str, Callable[[Path, str, bool], Source]] = {"folder": Folder, "video": Video}

KNOWN = "folder:PATH (also a .tar), video:FILE, test-pattern"
