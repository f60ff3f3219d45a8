"""The name that a user probably meant."""

import pytest

from edge_apps.suggestions import did_you_mean, nearest

KNOWN = ("coreml", "executorch", "tflite")


@pytest.mark.parametrize(("name", "meant"), [("coreml2", "coreml"), ("tflit", "tflite"), ("onnx", None), ("", None)])
def test_nearest(name: str, meant: str | None) -> None:
    assert nearest(name, KNOWN) == meant


def test_of_two_as_near_the_one_that_the_name_begins_with() -> None:
    assert nearest("vgg16bn", ("vgg19bn", "vgg16")) in ("vgg19bn", "vgg16")
    assert nearest("abcd", ("abcx", "xbcd")) == "abcx" or nearest("abc1", ("abc", "bc1")) == "abc"


def test_the_words() -> None:
    assert did_you_mean("coreml2", KNOWN) == " Did you mean 'coreml'?"
    assert did_you_mean("onnx", KNOWN) == ""
