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
    ],
)
def test_a_recipe_that_means_nothing_is_one_line(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(BadRecipe, match=named) as caught:
        load_recipe(path)
    assert "\n" not in str(caught.value)


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
