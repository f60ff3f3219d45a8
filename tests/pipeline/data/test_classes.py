"""Classes of data against those of a network."""

import pytest

from pipeline.data.classes import check_classes, check_trainable
from pipeline.data.digits import open_split
from pipeline.data.subset import Subset
from pipeline.errors import BadInput

DIGITS = tuple("0123456789")


def test_equal_classes_pass():
    check_classes(open_split("test"), DIGITS)


def test_counts_and_first_differences_are_named():
    with pytest.raises(BadInput) as caught:
        check_classes(open_split("test"), ("0", "one", "two", "three", "4"))
    assert "has 10 classes, the checkpoint has 5" in str(caught.value)
    assert "class 1 is '1', expected 'one'; class 2 is '2', expected 'two'; class 3" in str(caught.value)
    assert "class 5" not in str(caught.value)


def test_missing_and_reordered_classes_are_refused():
    with pytest.raises(BadInput, match="class 10 is missing, expected 'ten'"):
        check_classes(open_split("test"), (*DIGITS, "ten"))
    with pytest.raises(BadInput, match="class 0 is '0', expected '9'"):
        check_classes(open_split("test"), DIGITS[::-1])


def test_one_class_cannot_be_trained_on():
    whole = open_split("train")
    nines = Subset(whole, [i for i, label in enumerate(whole.labels) if label == 9])
    with pytest.raises(BadInput, match=r"one class only \('9'\)"):
        check_trainable(nines)
    check_trainable(Subset(whole, [0, whole.labels.index(9)]))
