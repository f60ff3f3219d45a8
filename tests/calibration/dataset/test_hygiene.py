from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import pytest

from calibration.dataset.hygiene import Cleaned, Replaced, clean, look_at
from calibration.dataset.sampling import ClassBalanced
from calibration.errors import BadCalibration
from edge_apps.errors import BadImage
from edge_apps.images import Image, ImageSet

InMemory = Callable[..., Any]
Scene = Callable[..., Image]


def cleaned(images: ImageSet, count: int, seed: int = 0) -> Cleaned:
    draw = ClassBalanced(images.labels, seed)
    return clean(images, draw, draw.take(count))


def plain(value: int, side: int = 40) -> Image:
    return np.full((side, side, 3), value, np.uint8)


def brighter(image: Image) -> Image:
    return np.clip(image * 1.08, 0, 255).astype(np.uint8)


# --- one picture ------------------------------------------------------------------------------------------------------


def test_a_look_at_a_picture(in_memory: InMemory, scene: Scene) -> None:
    image = scene(0)
    look = look_at(in_memory([image]), 0)
    assert look.fault is None
    assert look.fingerprint is not None
    assert (look.low, look.high) == (image.min(), image.max())


def faults(in_memory: InMemory, pictures: Sequence[Image]) -> list[str | None]:
    images = in_memory(pictures)
    return [look_at(images, index).fault for index in range(len(pictures))]


def test_constant_pictures(in_memory: InMemory, scene: Scene) -> None:
    red = np.zeros((20, 30, 3), np.uint8)
    red[:, :, 0] = 200
    chance = np.random.default_rng(0)
    hardly = (plain(128) + chance.integers(0, 2, (40, 40, 3))).astype(np.uint8)  # standard deviation 0.5
    noisy = (plain(128) + chance.integers(0, 8, (40, 40, 3))).astype(np.uint8)  # 2.3
    assert faults(in_memory, [red, plain(255), plain(99, 1), hardly]) == ["constant"] * 4
    assert faults(in_memory, [noisy, scene(0), scene(0, 1, 300), scene(0, 16, 16)]) == [None] * 4


@pytest.mark.parametrize(
    "normalise",
    [
        lambda x: x / 255,  # ToTensor
        lambda x: (x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225],  # and Normalize
        lambda x: x / 64,  # 0…3
    ],
)
@pytest.mark.parametrize("saturate", [True, False])
def test_normalised_before_it_was_saved(
    in_memory: InMemory, photos: list[Image], normalise: Callable[[Any], Any], saturate: bool
) -> None:
    """As a cast wraps negative values around, or as OpenCV cuts them off."""
    values = [normalise(cv2.resize(photo, (64, 64)).astype(np.float64)) for photo in photos]
    saved = [
        np.clip(np.rint(v), 0, 255).astype(np.uint8) if saturate else np.trunc(v).astype(np.int64).astype(np.uint8)
        for v in values
    ]
    found = Counter(faults(in_memory, saved))
    assert found["normalised"] > len(photos) / 2
    with pytest.raises(BadCalibration, match=r"drawn from 'memory' \(allowed: half\) hold no values but 0…4 and 252…2"):
        cleaned(in_memory(saved), 40)


def test_drawings_are_not_normalised(in_memory: InMemory) -> None:
    """In black and white, in near-black and near-white, white with grey; and a picture of one bright channel."""
    drawing = np.zeros((40, 40, 3), np.uint8)
    drawing[5:30, 10:20] = 255
    light = np.where(drawing == 0, 255, 100).astype(np.uint8)
    red = drawing.copy()
    red[:, :, 1:] = 0
    pictures = [drawing, 255 - drawing, np.clip(drawing, 2, 253), np.clip(drawing, 0, 254), light, red]
    assert faults(in_memory, pictures) == [None] * 6


def test_real_photos_have_no_fault(in_memory: InMemory, photos: list[Image]) -> None:
    grey = [np.repeat(cv2.cvtColor(p, cv2.COLOR_RGB2GRAY)[:, :, None], 3, axis=2) for p in photos]
    assert set(faults(in_memory, photos)) == set(faults(in_memory, grey)) == {None}


# --- a draw -----------------------------------------------------------------------------------------------------------


def test_nothing_to_do(in_memory: InMemory, scene: Scene) -> None:
    images = in_memory([scene(seed) for seed in range(20)])
    draw = ClassBalanced(images.labels, 0)
    drawn = draw.take(8)
    result = clean(images, draw, drawn)
    assert (result.indices, result.replaced, result.warnings) == (drawn, (), ())
    assert images.decoded == drawn  # each once
    assert result.compared() == 8


def test_a_near_duplicate_is_replaced_by_one_of_its_class(in_memory: InMemory, scene: Scene) -> None:
    pictures = [scene(seed) for seed in range(12)]
    pictures[6] = brighter(pictures[0])
    images = in_memory(pictures)
    for seed in range(20):
        draw = ClassBalanced(images.labels, seed)
        drawn = draw.take(8)
        result = clean(images, draw, drawn)
        assert Counter(images.labels[i] for i in result.indices) == {0: 4, 1: 4}
        assert result.indices == sorted(set(result.indices))
        assert not {0, 6} <= set(result.indices)
        if {0, 6} <= set(drawn):
            (replaced,) = result.replaced
            (new,) = set(result.indices) - set(drawn)
            assert (replaced.name, replaced.resembles) == ("cat/6.png", "cat/0.png")
            assert replaced.reason == "alike"
            assert replaced.distance is not None
            assert replaced.distance <= 8
            assert replaced.replacement == images.item_name(new)
            assert images.labels[new] == 0
        else:
            assert result.replaced == ()


def test_a_replacement_resembles_none_either(in_memory: InMemory, scene: Scene) -> None:
    """Three scenes in 30 variants, and five others: asked for five, five unlike ones come."""
    scenes = [scene(seed) for seed in range(8)]
    pictures = [cv2.convertScaleAbs(scenes[i % 3], alpha=1 - i / 200) for i in range(30)] + scenes[3:]
    images = in_memory(pictures, [0] * 30 + [1] * 5)
    for seed in range(5):
        result = cleaned(images, 5, seed)
        look = [(i % 3 if i < 30 else i) for i in result.indices]
        assert len(set(look)) == 5
        assert Counter(images.labels[i] for i in result.indices) in ({0: 3, 1: 2}, {0: 2, 1: 3})


def test_copies_are_replaced_at_any_size(in_memory: InMemory, scene: Scene) -> None:
    tiny = [scene(seed, 8, 8) for seed in range(10)]
    tiny[9] = tiny[1].copy()
    result = cleaned(in_memory(tiny), 9)
    assert result.compared() == 0
    if result.replaced:
        assert [(r.name, r.reason, r.resembles, r.distance) for r in result.replaced] == [
            ("dog/9.png", "copy", "dog/1.png", 0)
        ]
    everything = cleaned(in_memory(tiny), 10)
    assert everything.indices == list(range(10))
    assert everything.replaced == ()
    assert everything.warnings == (
        "1 calibration image should have been replaced and no better picture was found (first: 'dog/9.png', a copy of "
        "'dog/1.png'): give more data, or draw fewer images.",
    )


def test_two_classes_of_the_same_pictures(in_memory: InMemory, scene: Scene) -> None:
    """Six of one and half a dozen of the other: six different ones is what they have."""
    scenes = [scene(seed) for seed in range(6)]
    images = in_memory(scenes + scenes, [0] * 6 + [1] * 6)
    for count in (6, 7, 12):
        result = cleaned(images, count)
        assert len(result.indices) == count
        assert len({i % 6 for i in result.indices}) == 6
        assert bool(result.warnings) == (count > 6)


def test_classes_stay_as_equal_as_unlike_pictures_allow(in_memory: InMemory) -> None:
    """In classes of random sizes with random copies: one with two fewer than another has no other picture left."""
    for seed in range(300):
        chance = np.random.default_rng(seed)
        different = chance.integers(1, 7, 4)
        kinds = [(c, i % n) for c, n in enumerate(different) for i in range(n + chance.integers(0, 8))]
        chance.shuffle(kinds)
        pictures = [np.random.default_rng(tuple(kind)).integers(0, 256, (3, 3, 3), np.uint8) for kind in kinds]
        images = in_memory(pictures, [int(c) for c, _ in kinds], tuple("abcd"))
        count = int(chance.integers(1, different.sum() + 1))
        result = cleaned(images, count, seed)
        assert result.warnings == ()
        assert len({images.encoded(i) for i in result.indices}) == len(result.indices) == count
        counts = Counter(images.labels[i] for i in result.indices)
        assert all(counts[c] >= max(counts.values()) - 1 for c in range(4) if counts[c] < different[c])


def test_all_pictures_are_one(in_memory: InMemory, scene: Scene) -> None:
    images = in_memory([scene(0)] * 100)
    draw = ClassBalanced(images.labels, 0)
    with pytest.raises(BadCalibration, match="9 of 10 pictures drawn from .* are copies of others.*Give different"):
        clean(images, draw, draw.take(10))
    assert len(images.decoded) <= 10 + 8 * 10


def test_half_of_the_pictures_are_one(in_memory: InMemory, scene: Scene) -> None:
    images = in_memory([scene(0)] * 6 + [scene(seed) for seed in range(1, 6)])
    draw = ClassBalanced(images.labels, 0)
    result = clean(images, draw, draw.take(11))
    assert result.indices == list(range(11))
    assert "5 calibration images should have been replaced" in result.warnings[0]


def test_a_constant_picture_is_replaced(in_memory: InMemory, scene: Scene) -> None:
    pictures = [scene(seed) for seed in range(12)]
    pictures[3] = plain(77)
    images = in_memory(pictures)
    results = [cleaned(images, 11, seed) for seed in range(10)]
    assert all(3 not in result.indices and len(result.indices) == 11 for result in results)
    lines = {str(replaced) for result in results for replaced in result.replaced}
    assert lines
    assert all(line.startswith("Left out: 'dog/3.png', of one colour only; '") for line in lines)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_few_bad_pictures_among_good_ones_are_never_refused(in_memory: InMemory, scene: Scene, count: int) -> None:
    """Even where they are all that was drawn first."""
    images = in_memory([plain(9), plain(50)] + [scene(seed) for seed in range(30)])
    for seed in range(40):
        result = cleaned(images, count, seed)
        assert not {0, 1} & set(result.indices)
        assert len(result.indices) == count


def test_mostly_constant_pictures_are_refused(in_memory: InMemory, scene: Scene) -> None:
    images = in_memory([plain(10 + i) for i in range(30)] + [scene(0), scene(1)])
    for count in (32, 16, 8):
        images.decoded.clear()
        with pytest.raises(BadCalibration, match=r"\d+ of \d+ pictures drawn .* are of one colour only. Give pictures"):
            cleaned(images, count)
        assert len(images.decoded) == count  # none was looked for in vain
    with pytest.raises(BadCalibration, match=r"1 of 1 pictures .* one colour"):
        cleaned(in_memory([plain(9, 1)]), 1)


def test_a_corrupt_picture_is_named(in_memory: InMemory, scene: Scene) -> None:
    with pytest.raises(BadImage, match="Corrupt image 'dog/1.png'"):
        cleaned(in_memory([scene(0), None]), 2)


def test_a_replacement_in_words() -> None:
    left_out = Replaced(name="a/1.png", reason="alike", resembles="b/2.png", distance=4, replacement="a/3.png")
    assert str(left_out) == "Left out: 'a/1.png', looks like 'b/2.png' (4 of 63 bits differ); 'a/3.png' took its place."
