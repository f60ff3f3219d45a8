"""What a source gives: frames, what stands in the place of one, and what happened to the source itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from edge_apps.images import Image

POLL = 0.1
"""Seconds: how often a source that waits asks whether it shall stop."""


@dataclass(frozen=True)
class Frame:
    """One picture as the source gave it: ``image`` uint8 ``[H, W, 3]`` RGB."""

    sequence: int  # counts from 0 over frames and skipped ones, on through every loop and restart
    name: str
    captured_at: float  # wall clock when the picture was there, seconds since 1970 UTC
    born_ns: int  # the same moment by time.perf_counter_ns, which all processes of a machine share
    decode_ns: int  # decoding and converting, within the time until the frame was handed over
    image: Image
    decoded_elsewhere: bool = False  # or before that, by another process
    media_ns: int | None = None  # when it belongs, where that is not when it was read: a film played faster, or slower

    @property
    def at_ns(self) -> int:
        """The moment that it shows, for whatever looks at the time between two frames of one source."""
        return self.born_ns if self.media_ns is None else self.media_ns


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

    stop: Callable[[], bool]
    """Asked every tenth of a second while the source waits for a frame; the source ends once it says yes."""

    @property
    def text(self) -> str:
        """The source as the user wrote it, without its password."""

    @property
    def has_names(self) -> bool:
        """Whether each frame is a picture with a name of its own, that people want to read beside its label."""

    @property
    def length(self) -> int | None:
        """How many frames there are, as far as one can know: None for one that does not end, or drops some."""

    def __iter__(self) -> Iterator[Item]:
        """Start from the beginning. What the source holds (a process, memory) is freed when the iterator is closed."""


def never() -> bool:
    """What ``stop`` is until somebody sets it."""
    return False


def now() -> tuple[float, int]:
    """This moment by both clocks of a frame: the wall's, and the one that never jumps."""
    return time.time(), time.perf_counter_ns()


def waited(seconds: float, stop: Callable[[], bool]) -> bool:
    """Sleep, asking ``stop`` now and then; whether the whole time passed."""
    end = time.monotonic() + seconds
    while not stop():
        left = end - time.monotonic()
        if left <= 0:
            return True
        time.sleep(min(left, POLL))
    return False
