"""Pictures that calibrated nothing."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from calibration.dataset.dataset import CalibrationImage, CalibrationSet
from edge_apps.images import open_images, sha256
from pipeline.data.held_out import held_out
from pipeline.errors import BadInput


def calibrated(images: Any, indices: Any) -> CalibrationSet:
    used = (CalibrationImage("elsewhere", "under another name", sha256(images, index)) for index in indices)
    return CalibrationSet(source="test", how="by hand", seed=0, images=tuple(used))


def test_balanced_seeded_and_apart(small_pictures: Path) -> None:
    images = open_images(small_pictures)
    used = calibrated(images, [0, 1, 2, 20])
    drawn = held_out(images, 12, 3, used)
    assert Counter(drawn.labels) == {0: 6, 1: 6}
    assert {drawn.item_name(i) for i in range(12)}.isdisjoint(images.item_name(i) for i in (0, 1, 2, 20))
    again = held_out(images, 12, 3, used)
    other = held_out(images, 12, 4, used)
    names = [[some.item_name(i) for i in range(12)] for some in (drawn, again, other)]
    assert names[0] == names[1] != names[2]
    assert drawn.classes == images.classes


def test_all_that_is_left(small_pictures: Path) -> None:
    images = open_images(small_pictures)
    drawn = held_out(images, 1000, 0, calibrated(images, range(17)))
    assert [drawn.item_name(i) for i in range(len(drawn))] == [images.item_name(i) for i in range(17, 40)]
    with pytest.raises(BadInput, match="has no pictures but those used for calibration"):
        held_out(images, 4, 0, calibrated(images, range(40)))


def test_copies_count_once(small_pictures: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(small_pictures, tmp_path / "copies"))
    for number in range(5):
        shutil.copy(folder / "red" / "00.png", folder / "red" / f"copy{number}.png")
    images = open_images(folder)
    assert len(images) == 45
    drawn = held_out(images, 45, 0, calibrated(images, ()))
    assert len(drawn) == len({sha256(drawn, i) for i in range(len(drawn))}) == 40
