"""The recorded calibration set: which images, why, their hashes, and that none is an evaluation image."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable

import msgspec

from calibration.errors import BadCalibration
from calibration.sampling import class_balanced
from edge_apps.images import ImageSet, sha256


class CalibrationImage(msgspec.Struct, frozen=True):
    """One image: its name in the data, its class, the hash of its content."""

    name: str
    label: str
    sha256: str


class CalibrationSet(msgspec.Struct, frozen=True, kw_only=True):
    """What calibrated a network; travels in the bundle."""

    source: str
    how: str
    seed: int
    images: tuple[CalibrationImage, ...]

    def class_counts(self) -> dict[str, int]:
        """Images per class."""
        return dict(sorted(Counter(image.label for image in self.images).items()))

    def digest(self) -> str:
        """One hash over all content hashes, in order."""
        return hashlib.sha256("".join(image.sha256 for image in self.images).encode()).hexdigest()


def choose(images: ImageSet, count: int, seed: int) -> tuple[CalibrationSet, list[int]]:
    """Draw and record a class-balanced calibration set; also returns the drawn indices.

    Raises:
        BadCalibration: too few images.
    """
    indices = class_balanced(images.labels, count, seed)
    recorded = tuple(
        CalibrationImage(images.item_name(i), images.classes[images.labels[i]], sha256(images, i)) for i in indices
    )
    return CalibrationSet(source=images.name, how="class-balanced random", seed=seed, images=recorded), indices


def check_disjoint(chosen: CalibrationSet, evaluation: ImageSet) -> None:
    """Refuse to judge on images that calibrated: they are compared by content, not by name.

    Raises:
        BadCalibration: naming how many images are shared and the first of them.
    """
    calibrated = {image.sha256: image.name for image in chosen.images}
    shared = list(_shared(calibrated.keys(), evaluation))
    if shared:
        index = shared[0]
        raise BadCalibration(
            f"{len(shared)} of {len(evaluation)} evaluation images in '{evaluation.name}' were used for calibration "
            f"(first: '{evaluation.item_name(index)}' is '{calibrated[sha256(evaluation, index)]}'): "
            "evaluate on other images, or calibrate on others."
        )


def _shared(hashes: Iterable[str], evaluation: ImageSet) -> Iterable[int]:
    known = set(hashes)
    return (i for i in range(len(evaluation)) if sha256(evaluation, i) in known)
