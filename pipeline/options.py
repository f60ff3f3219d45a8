"""Command-line options that several verbs share, and what they mean."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click

from calibration.recipe import Observer
from edge_apps.console import progress
from edge_apps.errors import install
from pipeline.errors import BadInput, BadRecipe, MissingExtra

if TYPE_CHECKING:
    from calibration.recipe import Recipe
    from edge_apps.images import ImageSet
    from pipeline.checkpoint import Checkpoint

F = TypeVar("F", bound=Callable[..., Any])

DATA_HELP = "'digits', a folder of class folders, or an uncompressed tar of one."


def _stacked(*options: Callable[[F], F]) -> Callable[[F], F]:
    def decorate(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def checkpoint_options(command: F) -> F:
    """CHECKPOINT, and what a state dict of others does not say of itself."""
    return _stacked(
        click.argument("checkpoint", required=False),
        click.option("--model", help="For a state dict without metadata: its model."),
        click.option("--width", type=float, help="For a state dict without metadata: its width multiplier."),
        click.option(
            "--input",
            "input_size",
            type=click.IntRange(1),
            help="For a state dict without metadata: its input side.",
        ),
        click.option(
            "--labels",
            type=click.Path(path_type=Path),
            help="For a state dict without metadata: a text file with one class name a line.",
        ),
    )(command)


def calibration_options(command: F) -> F:
    """The recipe, and single settings that override it."""
    return _stacked(
        click.option(
            "--recipe", "recipe_file", type=click.Path(path_type=Path), help="A TOML file; see docs/recipe.md."
        ),
        click.option(
            "--observer", type=click.Choice(get_args(Observer)), help="How ranges are chosen; overrides the recipe."
        ),
        click.option("--calibration-size", type=int, help="Number of calibration images; overrides the recipe."),
        click.option("--seed", type=int, help="Of the draw of calibration images; overrides the recipe."),
        click.option("--skip-corrupt", is_flag=True, help="Leave corrupt pictures out and list them."),
    )(command)


def open_checkpoint(
    text: str | None, model: str | None, width: float | None, input_size: int | None, labels: Path | None
) -> Checkpoint:
    """The checkpoint that the user named; without one, the built-in, saying so.

    Raises:
        BadInput: a model's name instead of a file. BadCheckpoint: not a checkpoint of this network.
    """
    from edge_apps.runtime.preprocess import Preprocess
    from pipeline import zoo
    from pipeline.checkpoint import builtin, load

    if text is None:
        progress().print("No checkpoint given: using the built-in mobilenet_v2 trained on handwritten digits.")
    elif text in zoo.specs() and not Path(text).exists():
        raise BadInput(
            f"'{text}' is a model without weights: give a checkpoint file. "
            f"Train one with 'pipeline train {text} --data … --epochs … --out {text}.safetensors'."
        )
    options = None if width is None else {"width": width}
    preprocess = None if input_size is None else Preprocess(height=input_size, width=input_size)
    return load(
        builtin() if text is None else Path(text),
        model=model,
        options=options,
        labels=None if labels is None else read_labels(labels),
        preprocess=preprocess,
    )


def read_labels(path: Path) -> tuple[str, ...]:
    """One class name a line; blank lines at the end are passed over."""
    try:
        names = path.read_text("utf-8").rstrip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"Cannot read labels '{path}': {error}.") from error
    if not names or not all(name.strip() for name in names) or len(set(names)) != len(names):
        raise BadInput(f"Labels '{path}' must be one class name a line, none empty, none twice.")
    return tuple(names)


def choose_recipe(
    recipe_file: Path | None, observer: str | None, calibration_size: int | None, seed: int | None
) -> Recipe:
    """The recipe file or the defaults, with single settings overridden; ``BadRecipe`` where it means nothing."""
    import msgspec

    from calibration.recipe import Recipe, load_recipe

    base = Recipe() if recipe_file is None else load_recipe(recipe_file)
    given = {"observer": observer, "images": calibration_size, "seed": seed}
    overrides = {name: value for name, value in given.items() if value is not None}
    try:
        return msgspec.convert({**msgspec.to_builtins(base), **overrides}, Recipe)
    except msgspec.ValidationError as error:
        raise BadRecipe(f"Recipe: {error}.") from error


def calibration_images(text: str, checkpoint: Checkpoint, skip_corrupt: bool) -> tuple[ImageSet, list[str]]:
    """The pictures to draw from, with classes that are the checkpoint's; also the names of those left out."""
    from pipeline.data import open_data
    from pipeline.data.classes import check_classes, check_trainable
    from pipeline.data.reading import usable

    images = open_data(text, "calibration")
    check_trainable(images)
    check_classes(images, checkpoint.labels)
    if not skip_corrupt:
        return images, []
    left, skipped = usable(images, True)
    check_trainable(left)
    return left, skipped


def needs_export_extra(*, torchao: bool = False) -> None:
    """``MissingExtra`` where the workbench's packages are not installed.

    With ``torchao`` it is imported too, so that what it prints while it loads goes nowhere.
    """
    import importlib
    import importlib.util

    for package in ("torch", "torchao") if torchao else ("torch",):
        if importlib.util.find_spec(package) is None:
            raise MissingExtra(f"This command needs {package}, which is not installed: {install('export')}.")
    if torchao:
        from edge_apps.chatter import hushed

        with hushed():
            importlib.import_module("torchao.quantization.pt2e.quantize_pt2e")
