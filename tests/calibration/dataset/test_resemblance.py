"""The same image encoded anew is found among others, and unlike ones are not."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import cv2
import numpy as np
import pytest
from scipy.fft import dctn

from calibration.dataset.resemblance import APART, BITS, Resemblance, both_signatures, resembling, signature
from edge_apps.images import FileImages, Image


def jpeg(image: Image, quality: int = 80) -> Image:
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def webp(image: Image) -> Image:
    return cv2.imdecode(cv2.imencode(".webp", image, [cv2.IMWRITE_WEBP_QUALITY, 75])[1], cv2.IMREAD_COLOR)


def smaller(image: Image, by: float = 0.9) -> Image:
    return cv2.resize(image, None, fx=by, fy=by, interpolation=cv2.INTER_AREA)


CHANGES: dict[str, Callable[[Image], Image]] = {
    "JPEG 80": jpeg,
    "JPEG 60": lambda image: jpeg(image, 60),
    "WebP": webp,
    "90 %": smaller,
    "90 %, other filter": lambda image: cv2.resize(image, None, fx=0.9, fy=0.9, interpolation=cv2.INTER_LINEAR),
    "half": lambda image: smaller(image, 0.5),
    "90 % and JPEG 80": lambda image: jpeg(smaller(image)),
    "brighter": lambda image: np.clip(image * 1.1, 0, 255).astype(np.uint8),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_photo_is_found_again_and_as_itself(photos: list[Image], change: str) -> None:
    known = [signature(photo) for photo in photos]
    found = list(resembling([signature(CHANGES[change](photo)) for photo in photos], known))
    assert [(like.index, like.other) for like in found] == [(i, i) for i in range(len(photos))]


def test_unlike_photos_are_far_apart(photos: list[Image]) -> None:
    """The nearest two differ in 44 bits."""
    prints = [np.unpackbits(np.frombuffer(signature(photo) or b"", np.uint8)) for photo in photos]
    assert min(int((one != other).sum()) for one, other in combinations(prints, 2)) > 4 * APART


def test_unlike_images_of_32_pixels_are_not_found(small_photos: FileImages) -> None:
    """450,000 pairs of CIFAR-10, and recompressed ones are."""
    images = [small_photos.image(index) for index in range(0, 9900, 9)]
    known, new = [signature(image) for image in images[::2]], [signature(image) for image in images[1::2]]
    assert list(resembling(new, known)) == []
    again = list(resembling([signature(jpeg(image)) for image in images[:200:2]], known))
    assert [(like.index, like.other) for like in again] == [(i, i) for i in range(100)]


def test_bits_by_another_transform(scene: Callable[..., Image]) -> None:
    image = scene(3, 32, 32)
    waves = dctn(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float64), norm="ortho")
    order = sorted((y + x, y, x) for y in range(32) for x in range(32))[1 : BITS + 1]
    lowest = np.array([waves[y, x] for _, y, x in order])
    assert signature(image) == np.packbits(lowest > np.median(lowest)).tobytes()


@pytest.mark.parametrize("bits", [0, 1, APART, APART + 1])
def test_the_nearest_within_the_threshold_by_counting_bits(bits: int) -> None:
    chance = np.random.default_rng(0)
    others = [chance.integers(0, 256, BITS // 8, np.uint8) for _ in range(300)]
    mine = np.unpackbits(others[123])
    mine[chance.choice(BITS, bits, replace=False)] ^= 1
    queries = [chance.bytes(BITS // 8) for _ in range(299)] + [np.packbits(mine).tobytes()]
    found = list(resembling(queries, [other.tobytes() for other in others]))
    assert found == ([Resemblance(299, 123, bits)] if bits <= APART else [])


def test_images_without_a_signature_are_passed_over(scene: Callable[..., Image]) -> None:
    small = scene(1, 31, 40)
    enlarged = cv2.resize(scene(1, 8, 8), (96, 96), interpolation=cv2.INTER_LINEAR_EXACT)
    assert signature(small) is signature(enlarged) is None
    assert signature(np.full((64, 64, 3), 128, np.uint8)) is None
    one = signature(scene(1))
    assert list(resembling([None, one, None], [None, None, one])) == [Resemblance(1, 2, 0)]
    assert list(resembling([one], [None])) == list(resembling([None], [one])) == list(resembling([], [])) == []


@pytest.mark.parametrize("side", [32, 64, 100, 231])
def test_the_second_signature_is_that_of_the_mirror_image(photos: list[Image], side: int) -> None:
    for photo in photos[:10]:
        image = cv2.resize(photo, (side, 80), interpolation=cv2.INTER_AREA)
        mirrored = np.ascontiguousarray(image[:, ::-1])
        bits = [
            np.unpackbits(np.frombuffer(one or b"", np.uint8))
            for one in (both_signatures(image)[1], signature(mirrored))
        ]
        assert int((bits[0] != bits[1]).sum()) <= 2  # rounding at the median


def test_photos_are_not_like_mirror_images_of_others(photos: list[Image]) -> None:
    known = [signature(photo) for photo in photos]
    found = list(resembling([both_signatures(photo)[1] for photo in photos], known))
    assert found == []
