"""Images that are held back from calibration, so that exported files are judged on images that fitted nothing."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.dataset.dataset import CalibrationSet
from edge_apps.images import ImageSet
from edge_apps.runtime.manifest import JudgedOn
from edge_apps.runtime.preprocess import Preprocess, to_batch
from pipeline.data.held_out import held_out
from pipeline.data.subset import Subset
from pipeline.errors import BadImage, BadInput

FEW = 16
"""Of fewer images than this none is held back: calibration needs them more."""

LEAST, MOST, SHARE = 8, 32, 4
"""Held back are a quarter of the images, at least 8 and at most 32."""

NOISE_IMAGES, NOISE_SIDE = 16, 8
"""Without any image, this many are made of as many random colours a side, enlarged."""


def held_back(available: int) -> int:
    """Return how many of ``available`` images are kept out of calibration for files to be judged on."""
    return 0 if available < FEW else max(LEAST, min(MOST, available // SHARE))


@dataclass(frozen=True)
class JudgedImages:
    """Images that files are judged on: pixels uint8 ``[N, H, W, 3]``, and the name of each one's class.

    ``on`` says what they are: ``held-out`` images calibrated and fitted nothing, ``calibration`` images did because the
    data has too few others, and ``noise`` was made because there is no data; noise has no classes.
    """

    pixels: NDArray[np.uint8]
    on: JudgedOn
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.pixels)


def judged_images(
    images: ImageSet | None, preprocess: Preprocess, seed: int, calibrated: CalibrationSet | None
) -> JudgedImages:
    """Draw the images to judge files on; ``calibrated`` is None where nothing was calibrated or fitted.

    The draw is class-balanced and depends on the data, the seed and the calibration set alone.

    Raises:
        BadImage: a corrupt image.
    """
    if images is None:
        return JudgedImages(_noise(preprocess, seed), "noise")
    if calibrated is None:
        return _read(held_out(images, MOST, seed, NOTHING), preprocess, "held-out")
    apart = judged_subset(images, seed, calibrated)
    if apart is not None:
        return _read(apart, preprocess, "held-out")
    return _read(held_out(images, MOST, seed, NOTHING), preprocess, "calibration")


def judged_subset(images: ImageSet, seed: int, calibrated: CalibrationSet) -> Subset | None:
    """Draw held-out images to judge files on; None where fewer than ``LEAST`` did not calibrate."""
    wanted = held_back(len(images))
    if not wanted:
        return None
    try:
        apart = held_out(images, wanted, seed, calibrated)
    except BadInput:  # all of them calibrate
        return None
    return apart if len(apart) >= LEAST else None


NOTHING = CalibrationSet(source="", how="", seed=0, images=())


def _read(images: ImageSet, preprocess: Preprocess, on: JudgedOn) -> JudgedImages:
    try:
        pixels = to_batch([images.image(index) for index in range(len(images))], preprocess)
    except BadImage as error:
        raise BadImage(f"{error} Or leave such images out with `skip_corrupt`.") from error
    return JudgedImages(pixels, on, tuple(images.classes[label] for label in images.labels))


def _noise(preprocess: Preprocess, seed: int) -> NDArray[np.uint8]:
    """Random colours that vary slowly, as images do: noise of single pixels averages out in any network."""
    chance = np.random.default_rng(seed)
    coarse = chance.integers(0, 256, (NOISE_IMAGES, NOISE_SIDE, NOISE_SIDE, 3), np.uint8)
    size = (preprocess.width, preprocess.height)
    return np.stack([cv2.resize(image, size, interpolation=cv2.INTER_LINEAR_EXACT) for image in coarse])
