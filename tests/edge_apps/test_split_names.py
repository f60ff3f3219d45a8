"""What names of folders say that they are for."""

from __future__ import annotations

import pytest

from edge_apps.split_names import beside_use, loose_use, names_a_part, split_use


@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("train", "train"),
        ("data/TrainImages", "train"),
        ("traindata", "train"),
        ("train_dir", "train"),
        ("trainA", "train"),
        ("imgtrain", "train"),
        ("validate", "val"),
        ("VALIDATION-2017", "val"),
        ("valdir", "val"),
        ("hold-out set", "test"),
        ("my_test", "test"),
        ("PublicTest", "test"),
        ("calib", "calibration"),
    ],
)
def test_names_that_say_nothing_but_their_use(name: str, use: str) -> None:
    assert split_use(name) == loose_use(name) == use


@pytest.mark.parametrize(
    "name", ["cat", "trains", "traintest", "train test", "latest", "2017", "x", "data", "tr", "te"]
)
def test_names_that_are_no_split(name: str) -> None:
    assert split_use(name) is None


@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("seg_train", "train"),
        ("Trainingsdaten", "train"),
        ("Entraînement", "train"),
        ("训练集", "train"),
        ("tr", "train"),
        ("Validierung", "val"),
        ("validación", "val"),
        ("Prüfdaten", "test"),
        ("test tube", "test"),  # what lies in the folder has to agree
        ("cat", None),
        ("latest", None),
    ],
)
def test_names_with_a_word_of_use_in_them(name: str, use: str | None) -> None:
    assert loose_use(name) == use


def test_what_else_a_name_says() -> None:
    assert beside_use("ILSVRC2012_img_train") == beside_use("ILSVRC2012_img_val") == ("ilsvrc",)
    assert beside_use("train station") != beside_use("test tube")


@pytest.mark.parametrize(("name", "part"), [("fold1", True), ("raw", True), ("seg_pred", True), ("bus", False)])
def test_parts_of_data(name: str, part: bool) -> None:
    assert names_a_part(name) is part
