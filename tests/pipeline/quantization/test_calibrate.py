"""Drawing, calibrating and repairing a captured network; ranges and repairs as files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibration.algorithms.repairs import Repairs
from calibration.recipe import Recipe
from pipeline.checkpoints.load import load
from pipeline.data import open_data
from pipeline.errors import BadCalibration
from pipeline.quantization.calibrate import (
    COMPARED_IMAGES,
    Pictures,
    calibrate,
    draw,
    load_calibration,
    save_calibration,
)
from pipeline.quantization.captured import Captured, capture

RECIPE = Recipe(images=32, observer="minmax")
REPAIRED = Recipe(images=32, observer="minmax", weights="per-tensor", repairs=("bias", "equalize"))


@pytest.fixture
def captured(small_family: Any, small_checkpoint: Path, small_pictures: Path) -> Captured:  # noqa: ARG001
    return capture(load(small_checkpoint), open_data(str(small_pictures), "calibration").image(0))


@pytest.fixture
def pictures(captured: Captured, small_pictures: Path) -> Pictures:
    return draw(captured, open_data(str(small_pictures), "calibration"), RECIPE)


def test_pictures_are_those_that_are_recorded(pictures: Pictures, small_pictures: Path) -> None:
    images = open_data(str(small_pictures), "calibration")
    names = [images.item_name(i) for i in range(len(images))]
    assert len(pictures.pixels) == len(pictures.chosen.images) == 32
    third = images.image(names.index(pictures.chosen.images[3].name))
    assert abs(float(third.mean()) - float(pictures.pixels[3].mean())) < 1  # resized


def test_spreading_over_features_is_another_draw(captured: Captured, small_pictures: Path) -> None:
    images = open_data(str(small_pictures), "calibration")
    spread = draw(captured, images, Recipe(images=8, choice="feature-coverage"))
    drawn = draw(captured, images, Recipe(images=8))
    assert len(spread.pixels) == len(drawn.pixels) == 8
    assert spread.chosen.how != drawn.chosen.how
    assert spread.chosen.digest() != drawn.chosen.digest()


def test_files_are_compared_on_pictures_of_all_parts_of_the_set(pictures: Pictures) -> None:
    """A set lies class by class: its first pictures are of its first classes."""
    for count in (65, 100, 120, 250):
        numbered = replace(pictures, pixels=np.arange(count, dtype=np.uint8).reshape(count, 1, 1, 1))
        taken = numbered.compared()[:, 0, 0, 0].astype(int)
        assert (len(taken), taken[0], taken[-1]) == (COMPARED_IMAGES, 0, count - 1)
        assert set(np.diff(taken)) <= {count // COMPARED_IMAGES, count // COMPARED_IMAGES + 1}
    assert sorted(numbered.shuffled().ravel()) == list(range(250))
    assert np.array_equal(numbered.shuffled(), numbered.shuffled())
    assert not np.array_equal(numbered.shuffled(), numbered.pixels)
    assert len(pictures.compared()) == 32


def test_repairs_are_made_in_their_order_and_measured(captured: Captured, pictures: Pictures) -> None:
    calibration = calibrate(captured, pictures, REPAIRED)
    assert [effect.repairs for effect in calibration.ranges.effects] == [(), ("equalize",), ("equalize", "bias")]
    assert all(np.isfinite(effect.sqnr_db) for effect in calibration.ranges.effects)
    assert {(effect.images, effect.unseen) for effect in calibration.ranges.effects} == {(32, False)}
    assert calibration.repairs is not None
    assert calibration.ranges.repairs_sha256 == calibration.repairs.sha256()
    assert calibrate(captured, pictures, REPAIRED).ranges == calibration.ranges


def test_repairs_are_measured_on_pictures_that_calibrated_nothing(captured: Captured, small_pictures: Path) -> None:
    """Where there are any: rounding is learned from the others."""
    images = open_data(str(small_pictures), "calibration")
    drawn = draw(captured, images, Recipe(images=32, repairs=("bias",)))
    assert drawn.unseen is not None
    assert len(drawn.unseen) == 8
    assert not {picture.tobytes() for picture in drawn.unseen} & {picture.tobytes() for picture in drawn.pixels}
    (effect, _) = calibrate(captured, drawn, Recipe(images=32, repairs=("bias",))).ranges.effects
    assert (effect.images, effect.unseen) == (8, True)


def test_bias_is_corrected_against_the_equalised_network(captured: Captured, pictures: Pictures) -> None:
    """Equalisation changes what channels mean: corrected against the network before it, logits would be lost."""
    recipe = Recipe(images=32, observer="minmax", weights="per-tensor", repairs=("equalize", "bias"))
    equalised, corrected = calibrate(captured, pictures, recipe).ranges.effects[1:]
    assert corrected.sqnr_db > equalised.sqnr_db - 3


def test_without_repairs_the_network_stays(captured: Captured, pictures: Pictures) -> None:
    calibration = calibrate(captured, pictures, RECIPE)
    assert calibration.repairs == Repairs()
    assert calibration.ranges.effects == ()
    assert calibration.applied(captured) is captured


@pytest.mark.parametrize("recipe", [RECIPE, REPAIRED], ids=["plain", "repaired"])
def test_a_calibration_is_read_as_written(
    captured: Captured, pictures: Pictures, recipe: Recipe, tmp_path: Path
) -> None:
    calibration = calibrate(captured, pictures, recipe)
    save_calibration(tmp_path / "ranges.json", calibration)
    again = load_calibration(tmp_path / "ranges.json")
    assert again.ranges == calibration.ranges
    one, other = (made.applied(captured) for made in (calibration, again))
    np.testing.assert_array_equal(*(made.logits(made.graph(), pictures.pixels[:4]) for made in (one, other)))


def test_repairs_that_are_missing_or_others_are_refused(captured: Captured, pictures: Pictures, tmp_path: Path) -> None:
    path, beside = tmp_path / "ranges.json", tmp_path / "ranges.repairs.safetensors"
    save_calibration(path, calibrate(captured, pictures, REPAIRED))
    other = calibrate(captured, pictures, Recipe(images=32, repairs=("bias",)))
    assert other.repairs.rounded
    beside.write_bytes(other.repairs.to_bytes())
    with pytest.raises(BadCalibration, match="does not belong to"):
        load_calibration(path)
    beside.write_bytes(b"garbage")
    with pytest.raises(BadCalibration, match="no repairs"):
        load_calibration(path)
    beside.unlink()
    with pytest.raises(BadCalibration, match=r"cannot be read \(No such file or directory\): keep both files together"):
        load_calibration(path)
