"""Command-line options that several verbs share, and what they mean."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click
from click.core import ParameterSource

from calibration.recipe import Choice, Observer, Repair
from edge_apps.console import progress
from edge_apps.errors import install
from pipeline.commands.options.model import given_options, model_options
from pipeline.errors import BadInput, BadRecipe, MissingExtra

if TYPE_CHECKING:
    from calibration.recipe import Recipe
    from edge_apps.images import ImageSet
    from pipeline.checkpoints.checkpoint import Checkpoint
    from pipeline.zoo.spec import ModelSpec, Value

F = TypeVar("F", bound=Callable[..., Any])

WEIGHTS_HELP = "'imagenet', or imagenet:SET for one of several: the published weights, downloaded; see docs/weights.md."

DATA_HELP = (
    "'digits', a folder of class folders, or an uncompressed tar of one. Of a folder that holds train, val and test "
    "the one for this use is read; see docs/data.md."
)


trust_option = click.option(
    "--trust",
    metavar="PUBLIC-KEY",
    type=click.Path(path_type=Path),
    help="Refuse a bundle that is not signed with this key (Ed25519, PEM or OpenSSH); see docs/signing.md.",
)


def _stacked(*options: Callable[[F], F]) -> Callable[[F], F]:
    def decorate(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def three_numbers(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    """``0.5,0.5,0.5`` as numbers; a usage error unless they are three."""
    try:
        numbers = None if value is None else tuple(float(part) for part in value.split(","))
    except ValueError:
        numbers = ()
    if numbers is not None and len(numbers) != 3:
        raise click.BadParameter(f"'{value}' is not three numbers with commas between, as in 0.5,0.5,0.5.", ctx, param)
    return numbers


def given_preprocessing(values: Mapping[str, Any]) -> dict[str, Any]:
    """Of a command's arguments, the settings of the preprocessing that were given."""
    side, resize_to = values["input_size"], values["resize_to"]
    given = {} if side is None else {"height": side, "width": side}
    if resize_to is not None:
        given |= {"resize": "crop", "resize_to": resize_to}
    return given | {name: values[name] for name in ("mean", "std") if values[name] is not None}


def ema_option(command: F) -> F:
    """Which weights of a file that holds both."""
    return click.option(
        "--ema/--no-ema",
        default=None,
        help="Take the averaged weights (EMA) of a training script's checkpoint, or the raw ones. [default: the raw "
        "ones, if it holds any]",
    )(command)


def checkpoint_options(command: F) -> F:
    """CHECKPOINT, and what a state dict of others does not say of itself."""
    return _stacked(
        click.argument("checkpoint", required=False),
        click.option(
            "--model",
            help="For a state dict without metadata: its model. For weights of your own network: file.py:factory or "
            "package.module:factory, which is run.",
        ),
        click.option(
            "--input",
            "input_size",
            type=click.IntRange(1),
            help="For a state dict without metadata: its input side.",
        ),
        click.option(
            "--resize-to",
            type=click.IntRange(1),
            help="Where nothing says it: resize the shorter side to this and cut the centre. [default: stretch]",
        ),
        click.option(
            "--mean",
            metavar="R,G,B",
            callback=three_numbers,
            help="Where nothing says it: subtracted from the pixels 0…1. [default: ImageNet's]",
        ),
        click.option(
            "--std",
            metavar="R,G,B",
            callback=three_numbers,
            help="Where nothing says it: what they are then divided by. [default: ImageNet's]",
        ),
        click.option(
            "--labels",
            type=click.Path(path_type=Path),
            help="For a state dict or a .pt2 without metadata: a text file with one class name a line.",
        ),
        ema_option,
        click.option("--weights", help=f"CHECKPOINT is a model's name. {WEIGHTS_HELP}"),
        model_options("Options of the model, where CHECKPOINT does not say them"),
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


# An option of calibration_options → the key of the recipe that it overrides.
OVERRIDES = {
    "observer": "observer",
    "scales": "weights",
    "repairs": "repairs",
    "calibration_size": "images",
    "choice": "choice",
    "seed": "seed",
}


def named_checkpoint(text: str | None, described: Mapping[str, Any]) -> Callable[[], Checkpoint]:
    """Check how the user named the checkpoint (without one it is the built-in); calling the result reads it.

    So a command can check its other arguments before anything large is read, or downloaded for ``--weights``.
    ``described`` holds the values of ``checkpoint_options`` other than CHECKPOINT.

    Raises:
        BadInput: a model's name instead of a file, an unknown model, arguments that contradict each other. The result
            raises BadCheckpoint where it is none of this network; with ``--weights``, what ``published_weights``
            raises.
    """
    from pipeline import zoo
    from pipeline.checkpoints import user_networks
    from pipeline.checkpoints.checkpoint import builtin
    from pipeline.checkpoints.pretrained.published import sets_of
    from pipeline.data.label_file import read_labels

    model, labels, weights = (described[name] for name in ("model", "labels", "weights"))
    options, preprocessing = given_options(described), given_preprocessing(described)
    if weights is not None:
        if text is None:
            raise BadInput(
                "--weights are those of a model: name it, as in 'pipeline export resnet18 --weights imagenet'."
            )
        if model or preprocessing or labels:
            raise BadInput(
                "--weights bring their model, labels and preprocessing along: leave --model, --labels, --input, "
                "--resize-to, --mean and --std out."
            )
        if described["ema"] is not None:
            raise BadInput("--weights are the published ones: leave --ema and --no-ema out.")
        return partial(published_weights, weights, zoo.get(text), options)
    if text is None and model is not None:
        raise BadInput(f"--model '{model}' says what a CHECKPOINT is, and none is given: give the file of its weights.")
    if text is None:
        progress().print("No checkpoint given: using the built-in mobilenet_v2 trained on handwritten digits.")
    elif (zoo.knows(text) or user_networks.is_reference(text)) and not Path(text).exists():
        published = ", or take the published ones with --weights imagenet" if sets_of(text) else ""
        out = f"{user_networks.file_stem(text)}.safetensors"
        raise BadInput(
            f"'{text}' is a model without weights: give a checkpoint file{published}. "
            f"Train one with 'pipeline train {text} --data … --epochs … --out {out}'."
        )
    return partial(
        _loaded,
        builtin() if text is None else Path(text),
        model=model,
        options=options or None,
        labels=None if labels is None else read_labels(labels),
        preprocess=preprocessing or None,
        ema=described["ema"],
    )


def _loaded(path: Path, **given: Any) -> Checkpoint:
    """Read a checkpoint and say how it was read; takes and raises what ``checkpoint.load`` does."""
    from pipeline.checkpoints.load import load

    checkpoint = load(path, **given)
    for note in checkpoint.notes:
        progress().print(f"Note: {note}", markup=False, soft_wrap=True)
    return checkpoint


def published_weights(weights: str, spec: ModelSpec, options: Mapping[str, Value]) -> Checkpoint:
    """What ``--weights`` asks for, downloaded if it is not in the cache; what is known of it is said on stderr.

    Raises:
        BadInput: another text than 'imagenet' or 'imagenet:SET', or nothing published of this kind. DownloadFailed.
    """
    from pipeline.checkpoints.pretrained.importing import imagenet_weights

    source, colon, name = weights.partition(":")
    if source != "imagenet" or bool(colon) != bool(name):
        raise BadInput(f"--weights is '{weights}'; allowed: imagenet, or imagenet:SET for one of several.")
    imported = imagenet_weights(spec, options, name or None)
    for line in imported.notes():
        progress().print(line, markup=False, soft_wrap=True)
    return imported.checkpoint


def recipe_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Of a command's arguments, those of the recipe that were given, by their keys in it."""
    found = {key: given[option] for option, key in OVERRIDES.items() if given[option] not in (None, ())}
    if "repairs" in found:
        found["repairs"] = [name for text in found["repairs"] for name in text.split(",")]
    return found


def choose_recipe(given: Mapping[str, Any]) -> Recipe:
    """The recipe file or the defaults, with single settings overridden; ``BadRecipe`` where it means nothing."""
    import msgspec

    from calibration.recipe import Recipe, explained, load_recipe

    base = Recipe() if given["recipe_file"] is None else load_recipe(given["recipe_file"])
    try:
        return msgspec.convert({**msgspec.to_builtins(base), **recipe_options(given)}, Recipe)
    except msgspec.ValidationError as error:
        raise BadRecipe(f"Recipe: {explained(error)}") from error


def calibration_images(text: str, checkpoint: Checkpoint, skip_corrupt: bool) -> tuple[ImageSet, list[str]]:
    """The pictures to draw from, of classes that the checkpoint knows; also the names of those left out."""
    from pipeline.data import open_data
    from pipeline.data.classes import check_classes
    from pipeline.data.reading import usable

    images = open_data(text, "calibration")
    check_classes(images, checkpoint.labels)
    return usable(images, True) if skip_corrupt else (images, [])


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


def command_line(ctx: click.Context, leave_out: Collection[str] = ()) -> str:
    """The command as it was typed, without what was left at its default."""
    words = ["pipeline", str(ctx.info_name)]
    for parameter in ctx.command.params:
        name = str(parameter.name)
        value = ctx.params.get(name)
        if ctx.get_parameter_source(name) is not ParameterSource.COMMANDLINE or name in leave_out:
            continue
        if isinstance(parameter, click.Argument):
            words += [str(part) for part in value] if isinstance(value, tuple) else [str(value)]
        elif isinstance(value, bool):
            words.append(parameter.opts[0] if value else parameter.secondary_opts[0])
        elif isinstance(parameter, click.Option) and parameter.multiple:
            words += [word for one in value or () for word in (parameter.opts[0], str(one))]
        else:
            words += [parameter.opts[0], str(value)]
    return shlex.join(words)
