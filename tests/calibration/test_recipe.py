import os
from pathlib import Path

import pytest

from calibration.errors import BadCalibration, BadRecipe
from calibration.recipe import Recipe, load_recipe


def test_defaults_and_toml_agree(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text('observer = "percentile"\npercentile = 99.9\nfloat_layers = ["classifier.*"]\n')
    assert load_recipe(path) == Recipe(observer="percentile", percentile=99.9, float_layers=("classifier.*",))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('observer = "magic"', "magic"),
        ("obsever = 1", "obsever"),
        ("images = 0", "images is 0"),
        ("percentile = 12.0", "percentile is 12"),
        ("averaging = 0.0", "averaging is 0"),
        ("images = 'many'", "images"),
        ("not toml at all", "recipe.toml"),
        ("percentile = nan", "percentile is nan"),
        (f"seed = {2**63}", "seed is .* below 2"),
        pytest.param(f"images = {'9' * 5000}", "too many digits", id="long number"),
        pytest.param("observers = " + "{a=" * 20000, "nested too deeply", id="nested"),
        pytest.param("a." * 50_000 + "a = 1", "more than 1,000 dots", id="dotted"),
        pytest.param("#" * 300_000, "has 300,000 bytes, and at most 256,000 are read", id="large"),
    ],
)
def test_a_recipe_that_means_nothing_is_one_line(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(BadRecipe, match=named) as caught:
        load_recipe(path)
    assert "\n" not in str(caught.value)


def test_what_is_no_text_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_bytes(b"seed = 1 # \xff")
    with pytest.raises(BadRecipe, match="utf-8|UTF-8"):
        load_recipe(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(BadRecipe, match="is a FIFO, not a file"):
        load_recipe(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(BadRecipe, match="No such file"):
        load_recipe(tmp_path / "none.toml")


def test_float_layers_match_by_pattern() -> None:
    recipe = Recipe(float_layers=("features.1*", "classifier.1"))
    assert recipe.keeps_float("features.14.conv.2")
    assert recipe.keeps_float("classifier.1")
    assert not recipe.keeps_float("features.2.conv.0.0")


@pytest.mark.parametrize(
    ("available", "held_back", "images"), [(1000, 32, 128), (160, 32, 128), (159, 32, 127), (43, 10, 33), (4, 0, 4)]
)
def test_without_a_number_as_many_images_as_there_are(available: int, held_back: int, images: int) -> None:
    assert Recipe().fitted(available, held_back).images == images


def test_a_number_that_was_asked_for_stays() -> None:
    assert Recipe(images=500).fitted(40, 10).images == 500
    with pytest.raises(BadCalibration, match=r"The data has 11 images; at least 4 are needed"):
        Recipe().fitted(11, 8)
