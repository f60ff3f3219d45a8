from pathlib import Path

import pytest

from calibration.errors import BadRecipe
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
