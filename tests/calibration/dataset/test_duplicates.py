from collections.abc import Callable
from itertools import combinations

import cv2
import numpy as np
import pytest
from scipy.fft import dctn

from calibration.dataset.duplicates import ALIKE, BITS, distance, fingerprint
from edge_apps.images import FileImages, Image


def known(image: Image) -> int:
    found = fingerprint(image)
    assert found is not None
    return found


def alike(one: Image, other: Image) -> bool:
    return distance(known(one), known(other)) <= ALIKE


def jpeg(image: Image) -> Image:
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], cv2.IMREAD_COLOR)


CHANGES: dict[str, Callable[[Image], Image]] = {
    "recompressed": jpeg,
    "smaller": lambda image: cv2.resize(image, None, fx=0.8, fy=0.8, interpolation=cv2.INTER_AREA),
    "half": lambda image: cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "brighter": lambda image: np.clip(image * 1.1, 0, 255).astype(np.uint8),
    "cropped": lambda image: np.ascontiguousarray(image[1:, 1:]),
    "cropped by two": lambda image: np.ascontiguousarray(image[2:, 2:]),
    "moved": lambda image: cv2.copyMakeBorder(image[1:, 1:], 0, 1, 0, 1, cv2.BORDER_REPLICATE),
    "grey": lambda image: np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[:, :, None], 3, axis=2),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_photo_is_known_again(photos: list[Image], change: str) -> None:
    assert all(alike(photo, CHANGES[change](photo)) for photo in photos)


def test_unlike_photos_are_not_alike(photos: list[Image]) -> None:
    """The nearest two differ in 18 bits."""
    prints = [known(photo) for photo in photos]
    assert min(distance(one, other) for one, other in combinations(prints, 2)) > 2 * ALIKE


def test_unlike_pictures_of_32_pixels_are_seldom_alike(small_photos: FileImages) -> None:
    """300 pictures of CIFAR-10, 44,850 pairs: 0.014 are expected."""
    prints = [fingerprint(small_photos.image(index)) for index in range(0, 9000, 30)]
    compared = [one for one in prints if one is not None]
    assert len(compared) >= 299
    assert all(distance(one, other) > ALIKE for one, other in combinations(compared, 2))


def test_bits_by_another_transform(scene: Callable[..., Image]) -> None:
    image = scene(3, 32, 32)
    waves = dctn(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float64), norm="ortho")
    lowest = waves[:8, :8].ravel()[1:]
    expected = sum(1 << (BITS - 1 - i) for i, value in enumerate(lowest) if value > np.median(lowest))
    assert known(image) == expected
    assert known(image).bit_count() == 31  # half of 63 are above their median


def test_distance_counts_bits() -> None:
    assert distance(0b1011, 0b0010) == 2
    assert distance(2**BITS - 1, 0) == BITS


@pytest.mark.parametrize(("height", "width"), [(31, 31), (31, 400), (400, 31), (1, 1), (1, 5000)])
def test_small_pictures_are_not_compared(scene: Callable[..., Image], height: int, width: int) -> None:
    assert fingerprint(scene(0, height, width)) is None


@pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 32), (32, 3000), (3000, 32)])
def test_others_are(scene: Callable[..., Image], height: int, width: int) -> None:
    assert fingerprint(scene(0, height, width)) is not None


def test_pictures_enlarged_from_8_by_8_are_not_compared() -> None:
    from pipeline.data.digits import open_split

    digits = open_split("calibration")
    assert digits.image(0).shape == (96, 96, 3)
    assert {fingerprint(digits.image(index)) for index in range(len(digits))} == {None}


@pytest.mark.parametrize("value", [0, 7, 255])
def test_one_colour_has_no_look(value: int) -> None:
    assert fingerprint(np.full((40, 40, 3), value, np.uint8)) is None
