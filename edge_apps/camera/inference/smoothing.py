"""What a sequence of frames shows: single frames err, the thing in front of the camera changes slowly."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from edge_apps.errors import BadInput
from edge_apps.suggestions import did_you_mean

Probabilities = NDArray[np.float64]
T = TypeVar("T", int, float)


class Smoother(Protocol):
    """Keeps what it needs of the frames before."""

    def add(self, probabilities: Probabilities, at_ns: int) -> Probabilities:
        """The smoothed probabilities ``[K]`` after one more frame, which shows the moment ``at_ns``."""

    def reset(self) -> None:
        """What comes next is another scene: a camera that was away looks elsewhere."""


class Unsmoothed:
    """Each frame for itself."""

    def add(self, probabilities: Probabilities, at_ns: int) -> Probabilities:
        del at_ns
        return probabilities

    def reset(self) -> None:
        """Nothing is kept."""


class Exponential:
    """Exponential average over time: what was seen ``seconds`` ago counts 1/e as much as now, at any frame rate.

    The newest frame's weight is 1 − exp(−Δt / seconds), with Δt since the frame before.
    """

    def __init__(self, seconds: float) -> None:
        self._nanoseconds = seconds * 1e9
        self.reset()

    def reset(self) -> None:
        self._average: Probabilities | None = None
        self._at = 0

    def add(self, probabilities: Probabilities, at_ns: int) -> Probabilities:
        if self._average is None:
            self._average = probabilities
        else:
            weight = -math.expm1(-max(0, at_ns - self._at) / self._nanoseconds)
            self._average = self._average + weight * (probabilities - self._average)
        self._at = at_ns
        return self._average


class Majority:
    """The share of the last ``frames`` frames that each class won."""

    def __init__(self, frames: int) -> None:
        self._winners: deque[int] = deque(maxlen=frames)

    def reset(self) -> None:
        self._winners.clear()

    def add(self, probabilities: Probabilities, at_ns: int) -> Probabilities:
        del at_ns
        self._winners.append(int(probabilities.argmax()))
        counts = np.bincount(self._winners, minlength=len(probabilities)).astype(np.float64)
        return counts / len(self._winners)


KINDS: dict[str, tuple[str, str, Callable[[str], Smoother]]] = {
    "exponential": ("SECONDS", "0.5", lambda text: Exponential(_number(text, float, 0.01, 60.0))),
    "majority": ("FRAMES", "15", lambda text: Majority(_number(text, int, 2, 10_000))),
}
"""By name: what follows the colon, its default, and how it is made."""


def parse_smoothing(text: str | None, *, has_times: bool = True) -> Callable[[], Smoother]:
    """How to make a smoother of ``exponential[:SECONDS]`` or ``majority[:FRAMES]``; None leaves each frame as it is.

    Raises:
        BadInput: another name, a number out of range, or seconds between pictures that have no times.
    """
    if text is None:
        return Unsmoothed
    name, colon, value = text.partition(":")
    if name not in KINDS:
        raise BadInput(f"Unknown smoothing '{text}'.{did_you_mean(name, KINDS)} Known: {KNOWN}.")
    if name == "exponential" and not has_times:
        raise BadInput("`smooth` exponential goes by time, and a folder's pictures have none: use majority:FRAMES.")
    _, default, make = KINDS[name]
    argument = value if colon else default
    try:
        make(argument)
    except ValueError as error:
        written = f"Write {name}:{KINDS[name][0]}, as in {name}:{default}."
        raise BadInput(f"`smooth` is '{text}': {error}. {written}") from None
    return lambda: make(argument)


def _number(text: str, kind: type[T], least: T, most: T) -> T:
    try:
        value = kind(text)
    except ValueError:
        raise ValueError(f"'{text}' is no {'whole ' if kind is int else ''}number") from None
    if not least <= value <= most:
        raise ValueError(f"{text} is not within {least:g} and {most:g}")
    return value


KNOWN = ", ".join(f"{name}[:{argument}]" for name, (argument, *_) in KINDS.items())
