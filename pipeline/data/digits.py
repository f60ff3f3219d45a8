"""The built-in data: scikit-learn's 1,797 handwritten digits (UCI, Alpaydin and Kaynak, 1998) as RGB pictures.

Each is 8×8 with 17 grey levels. It is drawn at 96×96: levels 0…16 spread over 0…255, enlarged with OpenCV's
``INTER_LINEAR_EXACT`` (the same bits on every processor), the grey value in all three channels.

The split is recorded in ``digits-split.json``, with digests of the 8×8 levels and of the drawn pixels; what
scikit-learn and OpenCV give today is held against it on every opening. ``propose_split`` is how it was made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_apps.errors import install
from edge_apps.images import Image
from pipeline.errors import BadInput, MissingExtra

SIDE = 96
SPLIT_SIZES = {"test": 450, "calibration": 250}
"""Stratified by class; the rest is for training."""


class Split(msgspec.Struct, frozen=True):
    """Positions in scikit-learn's arrays, and sha256 digests of what was there."""

    indices: tuple[int, ...]
    levels_sha256: str
    pixels_sha256: str


class RecordedSplit(msgspec.Struct, frozen=True):
    """``digits-split.json``."""

    source: str
    side: int
    interpolation: str
    splits: dict[str, Split]


@dataclass(frozen=True)
class Digits:
    """One split of the digits, as an ``ImageSet``."""

    name: str
    indices: tuple[int, ...]
    labels: tuple[int, ...]
    levels: NDArray[np.uint8]  # [N, 8, 8], 0…16

    @property
    def classes(self) -> tuple[str, ...]:
        """ "0" to "9"."""
        return tuple(str(digit) for digit in range(10))

    def __len__(self) -> int:
        return len(self.indices)

    def item_name(self, index: int) -> str:
        """The position in scikit-learn's arrays, as ``digit-0042``."""
        return f"digit-{self.indices[index]:04d}"

    def encoded(self, index: int) -> bytes:
        """The 64 grey levels: two pictures are the same one exactly when these are."""
        return bytes(self.levels[index])

    def image(self, index: int) -> Image:
        """The drawn picture, uint8 ``[96, 96, 3]``."""
        return draw(self.levels[index])


def draw(levels: NDArray[np.uint8]) -> Image:
    """Grey levels 0…16, uint8 ``[8, 8]``, as an RGB picture uint8 ``[96, 96, 3]``."""
    grey = ((levels.astype(np.uint16) * 255 + 8) // 16).astype(np.uint8)
    large = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR_EXACT)
    rgb: Image = np.repeat(large[:, :, None], 3, axis=2)
    return rgb


def open_split(name: str) -> Digits:
    """Open train, calibration or test.

    Raises:
        BadInput: unknown split; or scikit-learn's digits, or OpenCV's enlargement, are not those on record.
        MissingExtra: scikit-learn is not installed.
    """
    recorded = recorded_split()
    if name not in recorded.splits:
        raise BadInput(f"Digits have no split '{name}'. Known: {', '.join(sorted(recorded.splits))}.")
    split = recorded.splits[name]
    levels, labels = all_digits()
    if max(split.indices) >= len(levels):
        raise BadInput(f"scikit-learn has {len(levels)} digits; the recorded split needs {max(split.indices) + 1}.")
    chosen = list(split.indices)
    if levels_digest(levels[chosen]) != split.levels_sha256:
        raise BadInput(
            f"scikit-learn's digits are not those that the '{name}' split was recorded for: install scikit-learn "
            "1.6 or newer from its own package."
        )
    if pixels_digest(levels[chosen]) != split.pixels_sha256:
        raise BadInput(
            f"OpenCV {cv2.__version__} enlarges the digits to other pixels than those on record for the '{name}' "
            "split: install opencv-python-headless 4.11 to 5.x."
        )
    return Digits(f"digits:{name}", split.indices, tuple(labels[i] for i in chosen), levels[chosen])


@cache
def recorded_split() -> RecordedSplit:
    """The split that ships with the package."""
    data = resources.files(__package__).joinpath("digits-split.json").read_bytes()
    return msgspec.json.decode(data, type=RecordedSplit)


def propose_split() -> RecordedSplit:
    """Make the split anew, without chance: per class, pictures in the order of their content hash.

    Test takes the first, calibration the next, training the rest; quotas follow class frequency (largest
    remainder), so that identical pictures are neighbours and the record's test can see that none were parted.
    """
    levels, labels = all_digits()
    hashes = [hashlib.sha256(picture.tobytes()).hexdigest() for picture in levels]
    by_class = [sorted((i for i, k in enumerate(labels) if k == c), key=hashes.__getitem__) for c in range(10)]
    chosen: dict[str, list[int]] = {}
    taken = [0] * 10
    for name, size in SPLIT_SIZES.items():
        quotas = _largest_remainder([len(members) for members in by_class], size)
        chosen[name] = [i for c, members in enumerate(by_class) for i in members[taken[c] : taken[c] + quotas[c]]]
        taken = [a + b for a, b in zip(taken, quotas, strict=True)]
    chosen["train"] = [i for c, members in enumerate(by_class) for i in members[taken[c] :]]
    splits = {
        name: Split(tuple(sorted(i)), levels_digest(levels[sorted(i)]), pixels_digest(levels[sorted(i)]))
        for name, i in chosen.items()
    }
    return RecordedSplit("sklearn.datasets.load_digits", SIDE, "INTER_LINEAR_EXACT", splits)


@cache
def all_digits() -> tuple[NDArray[np.uint8], tuple[int, ...]]:
    """scikit-learn's digits: levels uint8 ``[1797, 8, 8]`` and labels."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingExtra(f"The digits need scikit-learn, which is not installed: {install('export')}.") from error
    data = load_digits()
    return data.images.astype(np.uint8), tuple(int(label) for label in data.target)


def levels_digest(levels: NDArray[np.uint8]) -> str:
    """sha256 of grey levels ``[N, 8, 8]`` in order."""
    return hashlib.sha256(np.ascontiguousarray(levels).tobytes()).hexdigest()


def pixels_digest(levels: NDArray[np.uint8]) -> str:
    """sha256 of the drawn pictures in order."""
    digest = hashlib.sha256()
    for picture in levels:
        digest.update(draw(picture).tobytes())
    return digest.hexdigest()


def _largest_remainder(counts: Sequence[int], size: int) -> list[int]:
    """Share ``size`` in proportion to ``counts`` (Hamilton's method); ties go to the earlier class."""
    exact = [count * size / sum(counts) for count in counts]
    quotas = [int(share) for share in exact]
    by_remainder = sorted(range(len(counts)), key=lambda c: quotas[c] - exact[c])
    for c in by_remainder[: size - sum(quotas)]:
        quotas[c] += 1
    return quotas
