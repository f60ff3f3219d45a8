"""The name that a user probably meant."""

import pytest

from edge_apps.suggestions import did_you_mean, nearest

KNOWN = ("coreml", "executorch", "tflite")


@pytest.mark.parametrize(("name", "meant"), [("coreml2", "coreml"), ("tflit", "tflite"), ("onnx", None), ("", None)])
def test_nearest(name: str, meant: str | None) -> None:
    assert nearest(name, KNOWN) == meant


@pytest.mark.parametrize("known", [("gg16x", "vgg16"), ("vgg16", "gg16x")])
def test_of_two_as_near_the_one_that_the_name_begins_with(known: tuple[str, str]) -> None:
    """Both share five characters of eleven with the name, in either order."""
    assert nearest("vgg16x", known) == "vgg16"


def test_the_words() -> None:
    assert did_you_mean("coreml2", KNOWN) == " Did you mean 'coreml'?"
    assert did_you_mean("onnx", KNOWN) == ""
