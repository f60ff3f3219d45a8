"""Hygiene of a calibration set: pictures that say nothing or say it twice are left out, harmful data is refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import msgspec
import numpy as np

from calibration.dataset.duplicates import ALIKE, BITS, distance, fingerprint
from calibration.dataset.resemblance import signature
from calibration.dataset.sampling import Draw
from calibration.errors import BadCalibration
from edge_apps.images import Image, ImageSet, sha256

CONSTANT = 1.0
"""A picture is constant where the standard deviation of every channel is below this many of 255 levels."""

NORMALISED = 4
"""Mean and standard deviation, or a division by 255, leave at most this magnitude: to a byte, 0…4 or 252…255."""

NARROW = 64
"""Fewer levels than this between the darkest and the brightest value of all pictures are worth a warning."""

FEW = 32
"""Fewer calibration images than this are worth a warning."""

HARMFUL_SHARE, ENOUGH_TO_JUDGE = 0.5, 8
"""What is wrong with more than this share of a draw, of at least so many, is wrong with the data: it is refused."""

MORE_LOOKS = 8
"""For each image asked for, at most this many are looked at to replace others."""

Fault = Literal["constant", "normalised"]
Reason = Literal["copy", "alike", "constant", "normalised"]


class Replaced(msgspec.Struct, frozen=True, kw_only=True):
    """A picture that was drawn and left out, and what came in its place; all by their names in the data.

    reason: a ``copy`` has the same bytes as the picture that it ``resembles``; one that is ``alike`` looks like it,
    with ``distance`` bits of their fingerprints different; ``constant`` and ``normalised`` pictures resemble none.
    """

    name: str
    reason: Reason
    resembles: str | None
    distance: int | None
    replacement: str

    def __str__(self) -> str:
        """One line for people."""
        why = _Objection(self.reason, self.resembles, self.distance)
        return f"Left out: '{self.name}', {why}; '{self.replacement}' took its place."


@dataclass(frozen=True)
class Look:
    """What is kept of a picture once it was looked at: the pixels are not.

    low, high: its darkest and brightest value over all channels. fingerprint: None where pictures of its size are not
    compared by their look. signature: the longer hash that is recorded; None likewise.
    """

    sha256: str
    fingerprint: int | None
    signature: bytes | None
    low: int
    high: int
    fault: Fault | None


@dataclass(frozen=True)
class Cleaned:
    """A draw after replacements: indices ascending, one look for each."""

    indices: list[int]
    looks: list[Look]
    replaced: tuple[Replaced, ...]
    warnings: tuple[str, ...]

    def compared(self) -> int:
        """How many of the pictures could be compared by their look."""
        return sum(look.fingerprint is not None for look in self.looks)


def look_at(images: ImageSet, index: int) -> Look:
    """Decode one picture and see what matters here; raises ``BadImage``."""
    image = images.image(index)
    levels = _levels(image)
    present = np.flatnonzero(levels)
    fault = _fault(image, levels)
    return Look(
        sha256=sha256(images, index),
        fingerprint=None if fault else fingerprint(image),
        signature=None if fault else signature(image),
        low=int(present[0]),
        high=int(present[-1]),
        fault=fault,
    )


def clean(images: ImageSet, draw: Draw, drawn: Sequence[int]) -> Cleaned:
    """Replace copies, near-duplicates and faulty pictures by another draw, as far as there are others.

    Of pictures that resemble each other, the one with the lowest index stays. Where ``draw`` has no other, or too many
    were looked at, the picture stays and a warning says so.

    Raises:
        BadCalibration: most pictures have the same fault, or are copies of others. BadImage: one cannot be decoded.
    """
    looks = {index: look_at(images, index) for index in drawn}
    if len(drawn) >= ENOUGH_TO_JUDGE:
        _refuse_faulty(images, list(looks.values()))
    kept, reserve = _Kept(images), _Reserve(draw, MORE_LOOKS * len(drawn))
    rejected = {index: why for index in sorted(drawn) if (why := kept.add(index, looks[index])) is not None}
    replaced, stay = [], {}
    for index, why in rejected.items():
        other = next((i for i in reserve.instead_of(index) if kept.add(i, look_at(images, i)) is None), None)
        if other is None:
            stay[index] = why
        else:
            replaced.append(why.replaced(images, index, other))
    final = dict(sorted((kept.looks | {index: looks[index] for index in stay}).items()))
    _refuse_faulty(images, list(final.values()))
    _refuse_copies(images, stay, len(final))
    return Cleaned(list(final), list(final.values()), tuple(replaced), _about_those_that_stay(images, stay))


def warnings_about(indices: Sequence[int], looks: Sequence[Look], images: ImageSet, labels: Sequence[str]) -> list[str]:
    """What a user should know of a calibration set that is used all the same; one sentence each.

    ``labels`` are the classes expected, by the names that the data has for them; without, all classes of the data.
    """
    found = []
    if len(indices) < FEW:
        found.append(f"Only {len(indices)} calibration images: ranges from fewer than {FEW} depend much on the draw.")
    expected = tuple(labels) or images.classes
    present = {images.classes[images.labels[index]] for index in indices}
    missing = [name for name in expected if name not in present]
    if missing:
        remedy = "" if len(indices) >= len(expected) else f" Draw {len(expected)} images or more."
        if len({images.labels[index] for index in range(len(images))}) == 1:
            remedy = " What the network does with other classes is not measured: give images of every class."
        found.append(
            f"No calibration image of {len(missing)} of {len(expected)} classes: {_listed(missing)}.{remedy}",
        )
    low, high = min(look.low for look in looks), max(look.high for look in looks)
    if high - low < NARROW:
        found.append(
            f"All values of the calibration images are between {low} and {high}, of 0…255: look whether the pictures "
            "are what the network will see."
        )
    return found


@dataclass(frozen=True)
class _Objection:
    """Why a picture should not be in the set."""

    reason: Reason
    resembles: str | None = None
    distance: int | None = None

    def __str__(self) -> str:
        return {
            "copy": f"a copy of '{self.resembles}'",
            "alike": f"looks like '{self.resembles}' ({self.distance} of {BITS} bits differ)",
            "constant": "of one colour only",
            "normalised": f"no values but 0…{NORMALISED} and {256 - NORMALISED}…255",
        }[self.reason]

    def replaced(self, images: ImageSet, index: int, replacement: int) -> Replaced:
        return Replaced(
            name=images.item_name(index),
            reason=self.reason,
            resembles=self.resembles,
            distance=self.distance,
            replacement=images.item_name(replacement),
        )


class _Kept:
    """The pictures that are in the set so far."""

    def __init__(self, images: ImageSet) -> None:
        self.looks: dict[int, Look] = {}
        self._images = images

    def add(self, index: int, look: Look) -> _Objection | None:
        """Keep a picture, or say what speaks against it."""
        if look.fault is not None:
            return _Objection(look.fault)
        found = self._nearest(look)
        if found is None:
            self.looks[index] = look
            return None
        apart, other = found
        copy = self.looks[other].sha256 == look.sha256
        return _Objection("copy" if copy else "alike", self._images.item_name(other), apart)

    def _nearest(self, look: Look) -> tuple[int, int] | None:
        """Distance and index of the kept picture that it is most like, if they are alike."""
        nearest: tuple[int, int] | None = None
        for index, other in self.looks.items():
            if other.sha256 == look.sha256:
                return 0, index
            if look.fingerprint is not None and other.fingerprint is not None:
                apart = distance(look.fingerprint, other.fingerprint)
                if apart <= ALIKE and (nearest is None or apart < nearest[0]):
                    nearest = apart, index
        return nearest


class _Reserve:
    """Pictures to put in the place of others, until the draw has no more or ``looks`` were given out."""

    def __init__(self, draw: Draw, looks: int) -> None:
        self._draw = draw
        self._looks = looks

    def instead_of(self, index: int) -> Iterator[int]:
        """One after the other, each in the place of the one before."""
        while self._looks and (following := self._draw.another(index)) is not None:
            self._looks -= 1
            yield following
            index = following


def _levels(image: Image) -> Any:
    """How often each of the 256 values occurs, over all channels: int64 ``[256]``."""
    flat: Any = np.ascontiguousarray(image).reshape(-1, 1)
    return cv2.calcHist([flat], [0], None, [256], [0, 256]).ravel().astype(np.int64)


def _fault(image: Image, levels: Any) -> Fault | None:
    """What makes a picture useless.

    A normalised picture cast to bytes holds 0…4 and, where negative values wrapped around, 252…255 too. Drawings in
    black and white may hold no other values either, but not zeros, 1…4 and 252…255 all three.
    """
    zeros, small, wrapped = levels[0], levels[1 : NORMALISED + 1].sum(), levels[256 - NORMALISED :].sum()
    whole = levels.sum()
    if zeros + small == whole or (zeros + small + wrapped == whole and min(zeros, small, wrapped) > 0.01 * whole):
        return "normalised"
    _, deviations = cv2.meanStdDev(image)
    return "constant" if deviations.max() < CONSTANT else None


_HARM: dict[Fault, str] = {
    "normalised": f"hold no values but 0…{NORMALISED} and {256 - NORMALISED}…255: black frames, or pictures that were"
    " normalised before they were saved. Give them as they were taken: mean and standard deviation are applied inside"
    " the network's file.",
    "constant": "are of one colour only. Give pictures that show something.",
}


def _refuse_faulty(images: ImageSet, looks: Sequence[Look]) -> None:
    for fault, harm in _HARM.items():
        faulty = sum(look.fault == fault for look in looks)
        if faulty > HARMFUL_SHARE * len(looks):
            raise BadCalibration(f"{faulty} of {len(looks)} pictures drawn from '{images.name}' (allowed: half) {harm}")


def _refuse_copies(images: ImageSet, stay: Mapping[int, _Objection], count: int) -> None:
    copies = sum(why.reason == "copy" for why in stay.values())
    if count >= ENOUGH_TO_JUDGE and copies > HARMFUL_SHARE * count:
        raise BadCalibration(
            f"{copies} of {count} pictures drawn from '{images.name}' (allowed: half) are copies of others, and there "
            "are no others to draw. Give different pictures."
        )


def _about_those_that_stay(images: ImageSet, stay: Mapping[int, _Objection]) -> tuple[str, ...]:
    if not stay:
        return ()
    count = "1 calibration image" if len(stay) == 1 else f"{len(stay)} calibration images"
    index, why = next(iter(stay.items()))
    return (
        f"{count} should have been replaced and no better picture was found (first: '{images.item_name(index)}', "
        f"{why}): give more data, or draw fewer images.",
    )


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:5])
    return shown + (", …" if len(names) > 5 else "")
