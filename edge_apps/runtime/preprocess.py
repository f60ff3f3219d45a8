"""From a frame to the network's raw-byte input: the one implementation of resize and crop.

Nothing here knows a mean or a standard deviation at run time: normalisation is inside the exported file. The
numbers travel in ``Preprocess`` so that the workbench can bake them in and anyone can read them.
"""

from __future__ import annotations

import math
from typing import Literal

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_apps.images import Image

LARGEST_SIDE = 4096
"""Pixels of a side of a network's input; a batch of such images takes 50 MB for each."""

LONGEST_STRIPE = 50
"""How many times as long as it is wide an image is resized for a crop."""


class TrainedWith(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The resize that imported weights were trained with, where it is not the one that devices do.

    ``library`` did it, to ``resize_to`` on the shorter side; ``antialias`` widens the filter where a picture shrinks.
    """

    library: str
    interpolation: Literal["bilinear", "bicubic"]
    antialias: bool
    resize_to: int


class Preprocess(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a picture becomes the network's input.

    ``stretch`` resizes to height × width whatever the shape. ``crop`` resizes the shorter side to ``resize_to``,
    keeping the shape, and cuts the centre. The interpolation is OpenCV's ``INTER_LINEAR_EXACT``: the same bits on
    x86 and Arm, which ``INTER_LINEAR`` does not give. Network input = (pixel / 255 − mean) / std per RGB channel.
    ``trained_with`` is set where that interpolation stands in for another; it is a record, nothing computes with it.
    """

    height: int
    width: int
    resize: Literal["stretch", "crop"] = "stretch"
    resize_to: int | None = None
    interpolation: Literal["linear_exact"] = "linear_exact"
    color: Literal["RGB"] = "RGB"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    trained_with: TrainedWith | msgspec.UnsetType = msgspec.UNSET
    """Unset it is not written, so that readers that do not know it yet read such files."""

    def __post_init__(self) -> None:
        if not (1 <= self.height <= LARGEST_SIDE and 1 <= self.width <= LARGEST_SIDE):
            raise ValueError(
                f"input is {self.height}×{self.width}; both sides must be at least 1 and at most {LARGEST_SIDE:,}"
            )
        if not all(0 < value < math.inf for value in self.std):
            raise ValueError(f"std is {self.std}; every value must be above 0 and finite")
        if not all(math.isfinite(value) for value in self.mean):
            raise ValueError(f"mean is {self.mean}; every value must be finite")
        if self.resize == "stretch" and self.resize_to is not None:
            raise ValueError(f"resize_to is {self.resize_to}; it has a meaning only with resize 'crop'")
        if self.resize == "crop" and (self.resize_to is None or self.resize_to < max(self.height, self.width)):
            raise ValueError(f"resize_to is {self.resize_to}; a crop to {self.height}×{self.width} needs at least that")
        if self.resize_to is not None and self.resize_to > 2 * LARGEST_SIDE:
            raise ValueError(f"resize_to is {self.resize_to}; at most {2 * LARGEST_SIDE:,} is allowed")


def to_input(frame: Image, preprocess: Preprocess) -> Image:
    """Resize and crop one frame, uint8 ``[H, W, 3]`` RGB, to the network's uint8 ``[height, width, 3]``."""
    if preprocess.resize == "stretch":
        return _resize(frame, preprocess.height, preprocess.width)
    frame = _without_ends(frame)
    height, width = frame.shape[:2]
    assert preprocess.resize_to is not None  # checked on construction
    scale = preprocess.resize_to / min(height, width)
    resized = _resize(
        frame, max(preprocess.resize_to, round(height * scale)), max(preprocess.resize_to, round(width * scale))
    )
    top = (resized.shape[0] - preprocess.height) // 2
    left = (resized.shape[1] - preprocess.width) // 2
    return np.ascontiguousarray(resized[top : top + preprocess.height, left : left + preprocess.width])


def _without_ends(frame: Image) -> Image:
    """Cut the ends off a stripe, which a crop does not show: 1×10,000 pixels would become 256×2,560,000."""
    height, width = frame.shape[:2]
    most = LONGEST_STRIPE * min(height, width)
    top, left = max(0, height - most) // 2, max(0, width - most) // 2
    return frame[top : top + min(height, most), left : left + min(width, most)]


def to_batch(frames: list[Image], preprocess: Preprocess) -> NDArray[np.uint8]:
    """Preprocess frames of any size into one uint8 ``[N, height, width, 3]`` batch."""
    return np.stack([to_input(frame, preprocess) for frame in frames])


def _resize(frame: Image, height: int, width: int) -> Image:
    if frame.shape[:2] == (height, width):
        return frame
    return cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR_EXACT)  # type: ignore[return-value]
