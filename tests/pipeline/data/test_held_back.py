"""Images that files are judged on, apart from those that calibrate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calibration.dataset.dataset import CalibrationImage, CalibrationSet
from edge_apps.images import ImageSet, open_images, sha256
from edge_apps.runtime.preprocess import Preprocess
from pipeline.data.held_back import held_back, judged_images, judged_subset
from pipeline.data.subset import Subset

PREPROCESS = Preprocess(height=16, width=24)


def calibrated_on(images: ImageSet, count: int) -> CalibrationSet:
    used = tuple(CalibrationImage(images.item_name(i), "", sha256(images, i)) for i in range(count))
    return CalibrationSet(source="", how="", seed=0, images=used)


@pytest.mark.parametrize(
    ("available", "kept"), [(1, 0), (15, 0), (16, 8), (32, 8), (43, 10), (100, 25), (128, 32), (129, 32), (50_000, 32)]
)
def test_a_quarter_at_least_8_and_at_most_32(available: int, kept: int) -> None:
    assert held_back(available) == kept


def test_images_that_calibrated_nothing(small_pictures: Path) -> None:
    images = open_images(small_pictures)
    calibrated = calibrated_on(images, 30)
    judged = judged_images(images, PREPROCESS, 0, calibrated)
    assert (judged.on, judged.pixels.shape) == ("held-out", (10, 16, 24, 3))
    assert set(judged.classes) == {"red"}  # the first thirty images are all the blue ones and ten red ones
    apart = judged_subset(images, 0, calibrated)
    assert apart is not None
    used = {image.sha256 for image in calibrated.images}
    assert used.isdisjoint(sha256(apart, index) for index in range(len(apart)))
    again = judged_images(images, PREPROCESS, 0, calibrated)
    assert np.array_equal(judged.pixels, again.pixels)


@pytest.mark.parametrize("left", [0, 7])
def test_calibration_images_where_too_few_others_are_left(small_pictures: Path, left: int) -> None:
    images = open_images(small_pictures)
    judged = judged_images(images, PREPROCESS, 0, calibrated_on(images, 40 - left))
    assert (judged.on, len(judged)) == ("calibration", 32)


def test_few_images_are_not_split(small_pictures: Path) -> None:
    images = Subset(open_images(small_pictures), range(12, 27))
    assert judged_subset(images, 0, calibrated_on(images, 1)) is None
    judged = judged_images(images, PREPROCESS, 0, calibrated_on(images, 15))
    assert (judged.on, len(judged)) == ("calibration", 15)


def test_where_nothing_calibrates_every_image_may_judge(small_pictures: Path) -> None:
    judged = judged_images(open_images(small_pictures), PREPROCESS, 0, None)
    assert (judged.on, len(judged)) == ("held-out", 32)


def test_noise_where_there_are_no_images() -> None:
    judged = judged_images(None, PREPROCESS, 0, None)
    assert (judged.on, judged.pixels.shape, judged.classes) == ("noise", (16, 16, 24, 3), ())
    assert judged.pixels.std() > 20
    assert len({image.tobytes() for image in judged.pixels}) == 16
