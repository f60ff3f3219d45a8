"""Classes of data against those of a network, by their names."""

import unicodedata

import numpy as np
import pytest

from edge_apps.images import open_images, write_png
from pipeline.data import imagenet
from pipeline.data.classes import (
    absent_classes,
    check_classes,
    check_every_class,
    check_trainable,
    coverage,
    matched,
    names_in,
    order_of,
)
from pipeline.data.digits import open_split
from pipeline.data.subset import Subset
from pipeline.errors import BadInput

DIGITS = tuple("0123456789")


@pytest.fixture
def folders(tmp_path):
    """``folders("cat", "dog")``: a set of class folders, two images in each."""

    def make(*names):
        for number, name in enumerate(names):
            (tmp_path / name).mkdir()
            for i in range(2):
                write_png(tmp_path / name / f"{i}.png", np.full((4, 4, 3), 10 * number + i, np.uint8))
        return open_images(tmp_path)

    return make


def test_equal_classes_are_the_same_set():
    digits = open_split("test")
    assert matched(digits, DIGITS) is digits


@pytest.mark.parametrize("labels", [("cat", "dog", "airplane"), ("dog", "airplane", "cat", "horse")])
def test_an_image_gets_the_index_of_its_label_in_any_order(folders, labels):
    images = folders("airplane", "cat", "dog")
    found = matched(images, labels)
    assert found.classes == labels
    assert [labels[label] for label in found.labels] == ["airplane", "airplane", "cat", "cat", "dog", "dog"]
    assert (found.name, len(found), found.item_name(2)) == (images.name, 6, "cat/0.png")
    assert (found.image(4) == images.image(4)).all()
    assert found.encoded(4) == images.encoded(4)
    assert absent_classes(images, labels) == labels[3:]
    assert coverage(images, labels) == (
        ()
        if len(labels) == 3
        else (f"'{images.name}' has no folder for 1 of 4 classes: horse. Nothing is measured on it.",)
    )


def test_unknown_and_missing_folders_are_named():
    with pytest.raises(BadInput) as caught:
        check_classes(open_split("test"), ("0", "one", "two", "three", "4"))
    assert "No folder for: one, two, three. Unknown folders: 1, 2, 3, 5, 6 and 3 more." in str(caught.value)
    with pytest.raises(BadInput, match=r"\. Unknown folder: 9\."):
        check_classes(open_split("test"), DIGITS[:9])


def test_a_name_in_another_language_and_one_with_a_slip(folders):
    images = folders("cat", "pferd")
    with pytest.raises(BadInput, match=r"No folder for: horse\. Unknown folder: pferd\. Rename the folders"):
        matched(images, ("cat", "horse"))
    with pytest.raises(BadInput, match=r"Unknown folder: pferd\. Did you mean 'Pferde' by 'pferd'\?"):
        matched(images, ("cat", "Pferde"))


def test_upper_and_lower_case_are_different_names(folders):
    with pytest.raises(BadInput, match=r"No folder for: Cat\. Unknown folder: cat\. Did you mean 'Cat' by 'cat'\?"):
        matched(folders("cat", "dog"), ("Cat", "dog"))


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("label_form", ["NFC", "NFD"])
def test_how_letters_are_composed_does_not_matter(folders, form, label_form):
    images = folders(unicodedata.normalize(form, "café"), "thé")
    label = unicodedata.normalize(label_form, "café")
    assert matched(images, ("thé", label)).labels == (1, 1, 0, 0)
    assert names_in(images, ("thé", label)) == ("thé", "café")


def test_imagenet_by_wordnet_ids_in_part(folders):
    images = folders("n01443537", "n01440764")
    found = matched(images, imagenet.labels())
    assert [found.classes[label] for label in found.labels] == ["tench", "tench", "goldfish", "goldfish"]
    assert len(absent_classes(images, imagenet.labels())) == 998
    assert names_in(images, imagenet.labels())[:3] == ("n01440764", "n01443537", "n01484850")


def test_orders():
    assert order_of(("b", "c", "a"), ("a", "b", "c")) == [2, 0, 1]
    assert order_of(("a", "b"), ("a", "b")) == [0, 1]
    for other in (("a",), ("a", "b", "c"), ("a", "c")):
        assert order_of(other, ("a", "b")) is None


def test_one_class_cannot_be_trained_on():
    whole = open_split("train")
    nines = Subset(whole, [i for i, label in enumerate(whole.labels) if label == 9])
    with pytest.raises(BadInput, match=r"one class only \('9'\)"):
        check_trainable(nines)
    check_trainable(Subset(whole, [0, whole.labels.index(9)]))


def test_a_training_needs_images_of_every_class():
    whole = open_split("train")
    check_every_class(whole)
    with pytest.raises(BadInput, match=r"no usable image of '2', '3', '4', '5', '6' and 3 more"):
        check_every_class(Subset(whole, [whole.labels.index(0), whole.labels.index(1)]))
