"""What ``--data`` may say."""

import tarfile
from collections import Counter

import numpy as np
import pytest

from edge_apps.images import write_png
from pipeline.data import open_data
from pipeline.data.reading import usable
from pipeline.errors import BadInput


def test_digits_take_the_verbs_split_unless_one_is_named():
    assert open_data("digits", "train").name == "digits:train"
    assert open_data("digits:test", "train").name == "digits:test"


def test_an_unknown_split_lists_the_known():
    with pytest.raises(BadInput, match=r"no split 'tset'\. Known: calibration, test, train"):
        open_data("digits:tset", "train")


def test_a_folder_and_a_tar_of_it_hold_the_same(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "set" / name).mkdir(parents=True)
        write_png(tmp_path / "set" / name / "1.png", np.full((4, 4, 3), len(name) + ord(name[0]), np.uint8))
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        tar.add(tmp_path / "set", "set")
    folder, packed = open_data(str(tmp_path / "set"), "train"), open_data(str(tmp_path / "set.tar"), "test")
    assert folder.classes == packed.classes == ("cat", "dog")
    assert [folder.encoded(i) for i in range(2)] == [packed.encoded(i) for i in range(2)]


def test_a_missing_path_is_named(tmp_path):
    with pytest.raises(BadInput, match="No such folder or tar"):
        open_data(str(tmp_path / "nothing"), "train")


def test_real_pictures_are_all_usable(shared_data):
    images = open_data(str(shared_data / "cifar10" / "test.tar"), "test")
    assert Counter(images.labels) == dict.fromkeys(range(10), 1000)
    assert usable(images, skip_corrupt=True) == (images, [])
