"""Which folders are classes, and what is said where a folder may mean several things."""

from __future__ import annotations

import tarfile
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge_apps.errors import BadInput
from edge_apps.images import open_images

PNG = cv2.imencode(".png", np.full((4, 4, 3), 7, np.uint8))[1].tobytes()


def make(root: Path, *files: str) -> Path:
    """Images at these paths; a path that ends in a slash is an empty folder."""
    for file in files:
        if file.endswith("/"):
            (root / file).mkdir(parents=True)
            continue
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(PNG)
    return root


def tar_of(folder: Path, arcname: str = "") -> Path:
    path = folder.with_suffix(".tar")
    with tarfile.open(path, "w") as tar:
        tar.add(folder, arcname=arcname)
    return path


# Folders around the classes


@pytest.mark.parametrize("around", ["", "dataset/", "a/b/c/", "train/", "my data/Test/"])
def test_folders_around_all_classes_are_looked_through(tmp_path: Path, around: str) -> None:
    root = make(tmp_path / "set", f"{around}cat/1.png", f"{around}dog/1.png", f"{around}dog/deep/2.png")
    for path in (root, tar_of(root), tar_of(root, "set")):
        images = open_images(path)
        assert (images.classes, images.labels) == (("cat", "dog"), (0, 1, 1))


def test_files_beside_class_folders_are_no_classes(tmp_path: Path) -> None:
    root = make(tmp_path / "set", "cat/1.png", "dog/1.png")
    for name in ("labels.txt", "LICENSE", "index.csv"):
        (root / name).write_text("BM for example")
    assert open_images(root).classes == open_images(tar_of(root)).classes == ("cat", "dog")


def test_names_with_spaces_and_letters_of_any_language(tmp_path: Path) -> None:
    names = (" leading", "Åse's cat", "cats, dogs & co", "st. bernard", "čáp", "猫")
    root = make(tmp_path / "set", *(f"{name}/bild 1.png" for name in names))
    assert open_images(root).classes == open_images(tar_of(root)).classes == tuple(sorted(names))


# train, val, test

ROOTS = [
    ("train", "val", "test"),
    ("Train", "Valid", "Test"),
    ("TRAINING", "VALIDATION", "TESTING"),
    ("train2017", "val2017", "test2017"),
    ("train_set", "val-set", "test images"),
]


@pytest.mark.parametrize("folders", ROOTS, ids=lambda folders: folders[0])
@pytest.mark.parametrize("around", ["", "dataset/"])
@pytest.mark.parametrize("kind", ["folder", "tar"])
def test_folders_for_training_and_testing_are_never_classes(
    tmp_path: Path, folders: tuple[str, ...], around: str, kind: str
) -> None:
    root = make(tmp_path / "set", *(f"{around}{name}/{c}/{name}.png" for name in folders for c in ("cat", "dog")))
    path = root if kind == "folder" else tar_of(root)
    train, val, test = folders
    wanted: dict[Any, str] = {"train": train, "calibration": train, "val": val, "test": test}
    for use, name in wanted.items():
        images = open_images(path, use)
        assert (images.classes, images.labels) == (("cat", "dog"), (0, 1))
        assert images.name == f"{path}/{around}{name}"
        assert images.item_name(0).endswith(f"cat/{name}.png")
        assert images.encoded(1) == PNG
        assert images.remarks == (
            f"'{path}' is divided into {', '.join(repr(one) for one in sorted(folders))}: reading "
            f"'{path}/{around}{name}'.",
        )
    with pytest.raises(BadInput, match="is divided into .* which are not classes: give the folder to read, ") as caught:
        open_images(path)
    assert f"{path}/{around}{train}" in str(caught.value)


def test_a_split_is_the_same_set_as_its_folder(tmp_path: Path) -> None:
    root = make(tmp_path / "set", "train/cat/1.png", "train/dog/1.png", "val/cat/1.png", "val/dog/1.png")
    chosen, given = open_images(root, "train"), open_images(root / "train")
    assert (chosen.name, chosen.root, chosen.entries) == (given.name, given.root, given.entries)


def test_what_is_missing_is_not_made_up(tmp_path: Path) -> None:
    root = make(tmp_path / "set", "train/cat/1.png", "train/dog/1.png", "val/cat/1.png", "val/dog/1.png")
    assert open_images(root, "test").name == f"{root}/val"  # seen by no training either
    (root / "train").rename(root / "test")
    with pytest.raises(BadInput, match=f"give the folder to read, {root}/test or {root}/val"):
        open_images(root, "train")
    both = make(tmp_path / "both", "train/cat/1.png", "val/cat/1.png", "valid/cat/1.png")
    with pytest.raises(BadInput, match=f"holds 'val', 'valid': give one of them, {both}/val or {both}/valid"):
        open_images(both, "test")


def test_the_only_folder_is_read_whatever_it_is_for_and_that_is_said(tmp_path: Path) -> None:
    root = make(tmp_path / "set", "train/cat/1.png", "train/dog/1.png")
    for path in (root, tar_of(root)):
        assert open_images(path, "train").remarks == ()
        assert open_images(path, "test").remarks == (f"'{path}' holds 'train' only: reading that.",)


def test_class_folders_that_are_divided_themselves(tmp_path: Path) -> None:
    """Images to test on would be trained on, and nobody would know."""
    root = make(tmp_path / "set", *(f"{c}/{name}/1.png" for c in ("cat", "dog") for name in ("train", "val")))
    images = open_images(root, "train")
    assert (images.classes, len(images)) == (("cat", "dog"), 4)
    assert images.remarks == (
        f"Class folders of '{root}' hold folders 'train', 'val': all their images are read. Arrange them as "
        "train/<class>/<image> to read one of these alone.",
    )


def test_splits_without_class_folders(tmp_path: Path) -> None:
    root = make(tmp_path / "set", "train/1.png", "train/2.png", "val/1.png")
    with pytest.raises(BadInput, match=f"'{root}/train' holds 2 images and no class folders"):
        open_images(root, "train")


def test_splits_beside_other_folders(tmp_path: Path) -> None:
    root = make(tmp_path / "set", "train/cat/1.png", "test/cat/1.png", "raw/1.png")
    with pytest.raises(BadInput, match=f"holds 'test', 'train' beside 'raw': .* such as {root}/test or {root}/train"):
        open_images(root, "train")


def test_trains_are_vehicles(tmp_path: Path) -> None:
    root = make(tmp_path / "set", "bus/1.png", "car/1.png", "train/1.png")
    assert open_images(root, "train").classes == ("bus", "car", "train")


# Splits of other names, told by what lies in them

LOOSE = [
    ("seg_train", "seg_test"),
    ("ILSVRC2012_img_train", "ILSVRC2012_img_val"),
    ("tiny_train", "tiny_val"),
    ("train", "holdout"),
    ("tr", "te"),
    ("trainval", "test"),
    ("traindata", "testdata"),
    ("TrainImages", "TestImages"),
    ("train_dir", "validation_dir"),
    ("train_ds", "val_ds"),
    ("my_train", "my_test"),
    ("trainset2", "valset2"),
    ("train", "validate"),
    ("train", "verify"),
    ("train_x", "test_x"),
    ("Training", "Validierung"),
    ("Trainingsdaten", "Prüfung"),
    ("entraînement", "test"),
    ("Training phase", "Test phase B"),
]


@pytest.mark.parametrize("folders", LOOSE, ids=lambda folders: folders[0])
@pytest.mark.parametrize("kind", ["folder", "tar"])
def test_splits_by_other_names(tmp_path: Path, folders: tuple[str, str], kind: str) -> None:
    root = make(tmp_path / "set", *(f"{name}/{c}/1.png" for name in folders for c in ("cat", "dog")))
    path = root if kind == "folder" else tar_of(root)
    for use, name in zip(("train", "test"), folders, strict=True):
        images = open_images(path, use)  # type: ignore[arg-type]
        assert (images.classes, images.name) == (("cat", "dog"), f"{path}/{name}")
        assert len(images.remarks) == 1


def test_splits_that_lack_classes_of_each_other(tmp_path: Path) -> None:
    files = [f"seg_train/{c}/1.png" for c in "abcdef"] + [f"my val/x/{c}/1.png" for c in "abcg"]
    root = make(tmp_path / "set", *files)
    assert open_images(root, "train").classes == tuple("abcdef")
    assert open_images(root, "val").classes == tuple("abcg")


def test_several_folders_to_test_on(tmp_path: Path) -> None:
    names = ("train", "PublicTest", "PrivateTest")
    root = make(tmp_path / "set", *(f"{name}/{c}/1.png" for name in names for c in ("cat", "dog")))
    assert open_images(root, "train").name == f"{root}/train"
    with pytest.raises(BadInput, match=f"give one of them, {root}/PrivateTest or {root}/PublicTest"):
        open_images(root, "test")


@pytest.mark.parametrize("inside", ["cat/", ""])
def test_a_third_folder_is_named_and_not_read(tmp_path: Path, inside: str) -> None:
    made = [f"{name}/{c}/1.png" for name in ("seg_train", "seg_test") for c in ("cat", "dog")]
    root = make(tmp_path / "set", *made, f"seg_pred/{inside}1.png")
    with pytest.raises(BadInput, match=f"beside 'seg_pred': .* such as {root}/seg_test or {root}/seg_train"):
        open_images(root, "train")


@pytest.mark.parametrize("parts", [("raw", "processed"), ("fold1", "fold2", "fold3"), ("part_a", "part_b")])
def test_parts_of_data_are_no_classes(tmp_path: Path, parts: tuple[str, ...]) -> None:
    root = make(tmp_path / "set", *(f"{name}/{c}/1.png" for name in parts for c in ("cat", "dog")))
    with pytest.raises(BadInput, match="has the same folders 'cat', 'dog' in each of .*: these are parts") as caught:
        open_images(root, "train")
    assert f"give the folder to read, {root}/{sorted(parts)[0]} or " in str(caught.value).replace("Give", "give")


def test_the_same_folders_in_each_class_are_said_and_read(tmp_path: Path) -> None:
    """Nothing tells folders of a class from classes of a part: 'day' in 'bus', or 'bus' in 'day'."""
    root = make(tmp_path / "set", *(f"{c}/{time}/1.png" for c in ("bus", "car") for time in ("day", "night")))
    images = open_images(root, "train")
    assert images.classes == ("bus", "car")
    assert images.remarks == (
        f"Each of the folders 'bus', 'car' of '{root}' holds folders 'day', 'night': the former are read as the "
        f"classes. If the latter are the classes, give one of the former, such as {root}/bus.",
    )


@pytest.mark.parametrize(
    "files",
    [
        ["bus/2021/1.png", "bus/2022/1.png", "car/2022/1.png", "car/2023/1.png", "van/1.png"],  # images beside folders
        ["bus/images/1.png", "car/images/1.png"],
        ["bus/a/1.png", "bus/b/1.png", "car/c/1.png", "car/d/1.png"],
        ["train station/1.png", "test tube/1.png"],
        ["bullet train/1.png", "speed test/1.png", "cat/1.png"],
        [f"{number}/{side}/1.png" for number in range(30) for side in ("left", "right")],
    ],
)
def test_nested_folders_and_names_of_real_classes_are_left_alone(tmp_path: Path, files: list[str]) -> None:
    root = make(tmp_path / "set", *files)
    images = open_images(root, "train")
    assert images.classes == tuple(sorted({file.split("/")[0] for file in files}))
    assert images.remarks == ()


def test_a_tar_with_an_image_beside_its_splits_acts_as_the_folder_does(tmp_path: Path) -> None:
    root = make(tmp_path / "set", "cover.png", *(f"{name}/{c}/1.png" for name in ("train", "val") for c in "ab"))
    for path in (root, tar_of(root), tar_of(root, "set")):
        with pytest.raises(BadInput, match=r"Image '(set/)?cover.png' in .* is in no class folder"):
            open_images(path, "train")


# What cannot be classes


def test_empty_class_folders_are_refused_by_name(tmp_path: Path) -> None:
    root = make(tmp_path / "set", "cat/1.png", "dog/1.png", "horse/", "ship/deep/")
    (root / "ship" / "1.heic").write_bytes(b"\0\0\0\x18ftypheic")
    for path in (root, tar_of(root)):
        with pytest.raises(BadInput) as caught:
            open_images(path)
        assert str(caught.value) == (
            f"Class folders 'horse', 'ship' of '{path}' have no image: fill or remove them. They hold 1 HEIC file "
            "(first: 'ship/1.heic'): convert them."
        )


def test_images_in_no_class_folder(tmp_path: Path) -> None:
    root = make(tmp_path / "set", "1.png", "2.png", "3.png")
    with pytest.raises(BadInput, match=r"holds 3 images and no class folders \(first: '1.png' is in no class folder\)"):
        open_images(root)
    make(root, "cat/1.png")
    with pytest.raises(BadInput, match=r"Image '1.png' in '.*set' is in no class folder, nor are 2 more"):
        open_images(root)


def test_classes_of_one_name_in_two_compositions(tmp_path: Path) -> None:
    names = [unicodedata.normalize(form, "café") for form in ("NFC", "NFD")]
    root = make(tmp_path / "set", *(f"{name}/1.png" for name in names), "thé/1.png")
    if len(list(root.iterdir())) < 3:
        pytest.skip("this file system composes names itself")
    with pytest.raises(BadInput, match="two folders named 'café', which differ only in how Unicode composes"):
        open_images(root)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_class_has_the_same_name_from_every_system(tmp_path: Path, form: Any) -> None:
    root = make(tmp_path / "set", unicodedata.normalize(form, "café/1.png"), "thé/1.png")
    images = open_images(root)
    assert images.classes == tuple(unicodedata.normalize("NFC", name) for name in ("café", "thé"))
    assert images.encoded(0) == PNG


def test_classes_that_differ_in_case_are_two_and_that_is_said(tmp_path: Path) -> None:
    root = make(tmp_path / "set", "Cat/1.png", "cat/1.png", "dog/1.png")
    if len(list(root.iterdir())) < 3:
        pytest.skip("this file system does not tell cases apart")
    images = open_images(root)
    assert images.classes == ("Cat", "cat", "dog")
    assert images.remarks == (
        f"Classes 'Cat', 'cat' of '{root}' differ only in upper and lower case: they are read as different classes.",
    )


def test_a_real_tar(shared_data: Path) -> None:
    """Its one folder around the classes is named test."""
    images = open_images(shared_data / "cifar10" / "test.tar", "val")
    assert Counter(images.labels) == dict.fromkeys(range(10), 1000)
    assert images.remarks == ()
