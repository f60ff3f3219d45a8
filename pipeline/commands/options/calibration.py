"""Options of the recipe by which int8 files are made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click

from calibration.recipe import Choice, Observer, Repair
from pipeline.commands.options.common import stacked
from pipeline.errors import BadRecipe

if TYPE_CHECKING:
    from calibration.recipe import Recipe

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class RecipeOptions:
    """A recipe file, and single settings that override it; None, or no repairs, where nothing was given."""

    recipe_file: Path | None
    observer: str | None
    scales: str | None
    repairs: tuple[str, ...]
    calibration_size: int | None
    choice: str | None = None
    seed: int | None = None

    def overrides(self) -> dict[str, Any]:
        """Return the settings that were given, by their keys in a recipe."""
        settings = {
            "observer": self.observer,
            "weights": self.scales,
            "repairs": [name for text in self.repairs for name in text.split(",")],
            "images": self.calibration_size,
            "choice": self.choice,
            "seed": self.seed,
        }
        return {key: value for key, value in settings.items() if value not in (None, [])}

    def is_given(self) -> bool:
        """Return whether any of them was given."""
        return self.recipe_file is not None or bool(self.overrides())

    def recipe(self) -> Recipe:
        """Return the recipe of the file or the defaults, with what overrides it; ``BadRecipe`` if it means nothing."""
        import msgspec

        from calibration.recipe import Recipe, explained, load_recipe

        base = Recipe() if self.recipe_file is None else load_recipe(self.recipe_file)
        try:
            return msgspec.convert({**msgspec.to_builtins(base), **self.overrides()}, Recipe)
        except msgspec.ValidationError as error:
            raise BadRecipe(f"Recipe: {explained(error)}") from error


def calibration_options(command: F) -> F:
    """The recipe, and single settings that override it."""
    return stacked(
        click.option(
            "--recipe", "recipe_file", type=click.Path(path_type=Path), help="A TOML file; see docs/recipe.md."
        ),
        click.option(
            "--observer", type=click.Choice(get_args(Observer)), help="How ranges are chosen; overrides the recipe."
        ),
        click.option(
            "--scales",
            type=click.Choice(["per-channel", "per-tensor"]),
            help="One scale of weights for each output channel, or for each layer; overrides the recipe.",
        ),
        click.option(
            "--repair",
            "repairs",
            multiple=True,
            metavar="|".join(get_args(Repair)),
            help="What is done to weights against rounding; repeat or use commas; overrides the recipe.",
        ),
        click.option("--calibration-size", type=int, help="Number of calibration images; overrides the recipe."),
        click.option(
            "--choice",
            type=click.Choice(get_args(Choice)),
            help="Which images: drawn class by class, or spread over what the network sees in them; overrides the "
            "recipe.",
        ),
        click.option("--seed", type=int, help="Of the draw of calibration images; overrides the recipe."),
        click.option("--skip-corrupt", is_flag=True, help="Leave corrupt pictures out and list them."),
    )(command)
