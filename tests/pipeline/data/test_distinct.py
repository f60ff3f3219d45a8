"""Copies of pictures count once."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_apps.images import open_images
from pipeline.data.distinct import distinct
from pipeline.errors import BadInput
from pipeline.evaluation.evaluation import candidates, evaluate

pytestmark = pytest.mark.usefixtures("opened", "fake_targets")


@pytest.fixture
def folder(make_images: Callable[..., Any], tmp_path: Path) -> Path:
    """Three pictures in each of two classes, that a test may spoil."""
    return Path(shutil.copytree(make_images(3, 2, seed=11).root, tmp_path / "pictures"))


def test_without_copies_nothing_changes(folder: Path) -> None:
    images = open_images(folder)
    kept, left_out = distinct(images)
    assert kept is images
    assert left_out == ()


def test_of_copies_in_one_class_the_first_stays(folder: Path) -> None:
    for name in ("0copy.png", "9copy.png"):
        shutil.copy(folder / "class0" / "001.png", folder / "class0" / name)
    kept, left_out = distinct(open_images(folder))
    assert left_out == ("class0/0copy.png", "class0/9copy.png")
    assert [kept.item_name(i) for i in range(len(kept))] == [
        "class0/000.png",
        "class0/001.png",
        "class0/002.png",
        "class1/000.png",
        "class1/001.png",
        "class1/002.png",
    ]


def test_of_copies_in_several_classes_none_stays(folder: Path) -> None:
    shutil.copy(folder / "class0" / "001.png", folder / "class1" / "same.png")
    kept, left_out = distinct(open_images(folder))
    assert left_out == ("class0/001.png", "class1/same.png")
    assert len(kept) == 5
    assert kept.classes == ("class0", "class1")


def test_nothing_left(tmp_path: Path, folder: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "all" / name).mkdir(parents=True)
        shutil.copy(folder / "class0" / "000.png", tmp_path / "all" / name / "x.png")
    with pytest.raises(BadInput, match="lies in several classes"):
        distinct(open_images(tmp_path / "all"))


def test_a_hundred_copies_do_not_narrow_the_interval(
    laboratory: Any, fake_files: Callable[..., Any], tmp_path: Path
) -> None:
    from pipeline.checkpoints.load import load

    path = fake_files(laboratory.images, "0" * 64).write(tmp_path / "a.fake", laboratory.answers(2))
    data = Path(shutil.copytree(laboratory.images.root, tmp_path / "data"))
    for i in range(100):
        shutil.copy(data / "class0" / "003.png", data / "class0" / f"x{i}.png")
    reference = load(laboratory.checkpoint)
    once = evaluate(candidates([path]), laboratory.images, reference, threads=1)
    often = evaluate(candidates([path]), open_images(data), reference, threads=1)
    assert (often.images, len(often.repeated)) == (120, 100)
    assert often.files[0].comparison == once.files[0].comparison
