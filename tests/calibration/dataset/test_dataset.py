import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from calibration.dataset import dataset
from calibration.dataset.dataset import CalibrationSet, check_disjoint, choose
from calibration.errors import BadCalibration
from calibration.recipe import Recipe
from edge_apps.images import FileImages, Image, open_images, write_png
from pipeline.data import open_data

InMemory = Callable[..., Any]
Scene = Callable[..., Image]
COVERAGE = Recipe(images=4, choice="feature-coverage")


def folder(root: Path, first: int, count: int) -> Path:
    for label, seed in (("cat", 0), ("dog", 1)):
        (root / label).mkdir(parents=True)
        for i in range(count):
            picture = np.random.default_rng((seed, first + i)).integers(0, 256, (8, 8, 3), np.uint8)
            write_png(root / label / f"{i}.png", picture)
    return root


def test_records_what_was_drawn(tmp_path: Path) -> None:
    images = open_images(folder(tmp_path / "a", 0, 5))
    chosen, indices = choose(images, Recipe(images=4))
    assert chosen.class_counts() == {"cat": 2, "dog": 2}
    assert (chosen.how, chosen.seed, chosen.compared, chosen.replaced) == ("class-balanced random", 0, 0, ())
    for entry, index in zip(chosen.images, indices, strict=True):
        assert entry.name == images.item_name(index)
        assert entry.sha256 == hashlib.sha256((tmp_path / "a" / entry.name).read_bytes()).hexdigest()
    assert chosen.digest() == choose(images, Recipe(images=4))[0].digest()
    assert chosen.digest() != choose(images, Recipe(images=4, seed=1))[0].digest()


def test_overlap_is_found_by_content_not_by_name(tmp_path: Path) -> None:
    chosen, _ = choose(open_images(folder(tmp_path / "a", 0, 3)), Recipe(images=6))
    check_disjoint(chosen, open_images(folder(tmp_path / "b", 100, 3)))  # the same names, other pictures
    shared = folder(tmp_path / "c", 100, 3)
    (shared / "cat" / "renamed.png").write_bytes((tmp_path / "a" / "cat" / "1.png").read_bytes())
    with pytest.raises(BadCalibration, match=r"1 of 7 evaluation images .*'cat/renamed.png' is 'cat/1.png'"):
        check_disjoint(chosen, open_images(shared))


def test_what_was_left_out_is_not_held_against_the_evaluation(in_memory: InMemory, scene: Scene) -> None:
    """It calibrated nothing; what took its place did."""
    scenes = [scene(seed) for seed in range(4)]
    images = in_memory([*scenes[:3], np.clip(scenes[0], 0, 250), scenes[3]], [0, 1, 0, 1, 1])
    chosen = next(c for c, _ in (choose(images, Recipe(images=4, seed=s)) for s in range(30)) if c.replaced)
    left_out = [i for i in range(5) if images.item_name(i) == chosen.replaced[0].name]
    check_disjoint(chosen, in_memory([images.pictures[i] for i in left_out], [0]))
    with pytest.raises(BadCalibration, match=f"is '{chosen.replaced[0].replacement}'"):
        check_disjoint(chosen, in_memory([scenes[3]], [0]))


def test_each_evaluation_picture_is_read_once(in_memory: InMemory, scene: Scene) -> None:
    images = in_memory([scene(seed) for seed in range(6)])
    chosen, _ = choose(images, Recipe(images=6))
    reads = Counter[int]()
    content = images.encoded
    images.encoded = lambda index: (reads.update([index]), content(index))[1]
    with pytest.raises(BadCalibration, match="6 of 6"):
        check_disjoint(chosen, images)
    assert set(reads.values()) == {1}


def test_the_record_travels(in_memory: InMemory, scene: Scene) -> None:
    pictures = [scene(seed) for seed in range(10)]
    pictures[7] = pictures[1].copy()
    chosen = next(c for s in range(30) if (c := choose(in_memory(pictures), Recipe(images=8, seed=s))[0]).replaced)
    assert msgspec.json.decode(msgspec.json.encode(chosen), type=CalibrationSet) == chosen


def test_a_record_of_an_earlier_version(in_memory: InMemory, scene: Scene) -> None:
    chosen, _ = choose(in_memory([scene(0), scene(1)]), Recipe(images=2))
    fields = msgspec.to_builtins(chosen)
    for name in ("compared", "replaced", "warnings"):
        del fields[name]
    old = msgspec.json.decode(msgspec.json.encode(fields), type=CalibrationSet)
    assert (old.compared, old.replaced, old.warnings) == (None, (), ())
    assert old.images == chosen.images
    for image in fields["images"]:
        assert len(bytes.fromhex(image.pop("signature"))) == 16
    oldest = msgspec.json.decode(msgspec.json.encode(fields), type=CalibrationSet)
    assert [image.signature for image in oldest.images] == [None, None]
    assert [image.sha256 for image in oldest.images] == [image.sha256 for image in chosen.images]


# --- what is said, and what is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize("images", [128, 250])
def test_digits_give_no_alarm(images: int) -> None:
    chosen, _ = choose(open_data("digits", "calibration"), Recipe(images=images))
    assert (chosen.warnings, chosen.replaced, chosen.compared) == ((), (), 0)


def test_photos_give_no_alarm(shared_data: Path) -> None:
    chosen, indices = choose(open_images(shared_data / "photos"), Recipe(images=43))
    assert (chosen.warnings, chosen.replaced, chosen.compared) == ((), (), 43)
    assert indices == list(range(43))


def test_small_pictures_of_things_give_no_alarm(small_photos: FileImages) -> None:
    chosen, _ = choose(small_photos, Recipe())
    assert (chosen.warnings, chosen.replaced) == ((), ())
    assert chosen.compared == 127  # one cat is blurred
    assert set(chosen.class_counts().values()) == {12, 13}


def test_missing_classes(in_memory: InMemory, scene: Scene) -> None:
    images = in_memory([scene(seed) for seed in range(40)], classes=("cat", "dog"))
    assert choose(images, Recipe(images=32))[0].warnings == ()
    assert choose(images, Recipe(images=32), labels=("cat", "dog"))[0].warnings == ()
    (said,) = choose(images, Recipe(images=32), labels=("bat", "cat", "dog", "eel"))[0].warnings
    assert said == "No calibration image of 2 of 4 classes: 'bat', 'eel'."
    many = tuple(f"class {i}" for i in range(40))
    (said,) = choose(in_memory(images.pictures, classes=many), Recipe(images=32))[0].warnings
    assert said.startswith("No calibration image of 8 of 40 classes: 'class ")
    assert said.endswith(", …. Draw 40 images or more.")


def test_few_images(in_memory: InMemory, scene: Scene) -> None:
    images = in_memory([scene(seed) for seed in range(40)])
    assert choose(images, Recipe(images=31))[0].warnings == (
        "Only 31 calibration images: ranges from fewer than 32 depend much on the draw.",
    )
    single, (index,) = choose(images, Recipe(images=1))
    assert len(single.images) == 1
    missing = images.classes[1 - images.labels[index]]
    assert single.warnings[1:] == (f"No calibration image of 1 of 2 classes: '{missing}'. Draw 2 images or more.",)


def test_a_narrow_range_of_values(in_memory: InMemory, scene: Scene) -> None:
    """scikit-learn's digits as they come, 0…16."""
    images = in_memory([scene(seed) // 15 for seed in range(32)])
    assert choose(images, Recipe(images=32))[0].warnings == (
        "All values of the calibration images are between 0 and 17, of 0…255: look whether the pictures are what the "
        "network will see.",
    )


def test_one_class_only(in_memory: InMemory, scene: Scene) -> None:
    images = in_memory([scene(seed) for seed in range(40)], [1] * 40)
    assert choose(images, Recipe(images=32))[0].warnings == (
        "No calibration image of 1 of 2 classes: 'cat'. What the network does with other classes is not measured: give "
        "images of every class.",
    )
    assert choose(images, Recipe(images=32), labels=("dog",))[0].warnings == ()


def test_one_picture(in_memory: InMemory, scene: Scene) -> None:
    chosen, indices = choose(in_memory([scene(0)]), Recipe(images=1))
    assert indices == [0]
    assert len(chosen.warnings) == 2


@pytest.mark.parametrize("choice", ["class-balanced", "feature-coverage"])
def test_more_than_there_are(in_memory: InMemory, scene: Scene, choice: Any) -> None:
    with pytest.raises(BadCalibration, match="asks for 3 images but the data has 2"):
        choose(in_memory([scene(0), scene(1)]), Recipe(images=3, choice=choice), nothing_to_see)


# --- by features ------------------------------------------------------------------------------------------------------


def nothing_to_see(indices: Sequence[int]) -> Any:
    raise AssertionError(f"features of {indices} are not needed")


def test_classes_need_no_features(in_memory: InMemory, scene: Scene) -> None:
    images = in_memory([scene(seed) for seed in range(8)])
    assert choose(images, Recipe(images=4), nothing_to_see)[1] == choose(images, Recipe(images=4))[1]


def test_coverage_needs_features(in_memory: InMemory, scene: Scene) -> None:
    with pytest.raises(TypeError, match="needs the network's features"):
        choose(in_memory([scene(seed) for seed in range(8)]), COVERAGE)


def test_every_group_of_pictures_is_covered(in_memory: InMemory, scene: Scene) -> None:
    """Four groups of very unequal size, all in one feature space: four pictures, one of each."""
    groups = [0] * 60 + [1] * 2 + [2] * 17 + [3]
    images = in_memory([scene(seed) for seed in range(80)])
    asked: list[Sequence[int]] = []

    def features(indices: Sequence[int]) -> np.ndarray:
        asked.append(indices)
        corner = np.eye(4, dtype=np.float32)[[groups[i] for i in indices]] * 100
        return corner + np.random.default_rng(0).normal(size=corner.shape).astype(np.float32)

    draws = set()
    for seed in range(6):
        recipe = msgspec.structs.replace(COVERAGE, seed=seed)
        chosen, indices = choose(images, recipe, features)
        assert {groups[i] for i in indices} == {0, 1, 2, 3}
        assert indices == sorted(indices)
        assert chosen.how == "feature-coverage (k-centre greedy) among 80 of 80 images"
        assert choose(images, recipe, features)[0] == chosen
        draws.add(tuple(indices))
    assert len(draws) > 1
    assert all(list(indices) == list(range(80)) for indices in asked)


def test_a_near_duplicate_gives_way_to_the_next_farthest(in_memory: InMemory, scene: Scene) -> None:
    """Far apart for a network that looks at brightness, and yet one picture."""
    pictures = [scene(0), np.clip(scene(0) * 1.1, 0, 255).astype(np.uint8), scene(1), scene(2)]
    images = in_memory(pictures, [0, 1, 0, 1])
    places = np.array([[0], [100], [52], [51]], np.float32)
    recipe = msgspec.structs.replace(COVERAGE, images=2)
    for seed in range(10):
        chosen, indices = choose(images, msgspec.structs.replace(recipe, seed=seed), lambda asked: places[list(asked)])
        assert not {0, 1} <= set(indices)
        for left_out in chosen.replaced:
            assert (left_out.name, left_out.resembles) == ("dog/1.png", "cat/0.png")
            assert left_out.replacement == ("cat/2.png" if {0, 2} == set(indices) else "dog/3.png")


def test_of_large_data_only_a_pool_is_looked_at(
    in_memory: InMemory, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset, "POOL", 20)
    images = in_memory([scene(seed) for seed in range(60)], [0] * 50 + [1] * 10)
    pools: list[Sequence[int]] = []

    def features(indices: Sequence[int]) -> np.ndarray:
        pools.append(indices)
        return np.random.default_rng(0).normal(size=(len(indices), 3)).astype(np.float32)

    chosen, indices = choose(images, msgspec.structs.replace(COVERAGE, images=2), features)
    assert chosen.how == "feature-coverage (k-centre greedy) among 20 of 60 images"
    assert Counter(images.labels[i] for i in pools[0]) == {0: 10, 1: 10}
    assert set(indices) <= set(pools[0])
    assert images.decoded == indices
    assert choose(images, msgspec.structs.replace(COVERAGE, images=10), features)[0].how.endswith(
        "among 40 of 60 images"
    )
