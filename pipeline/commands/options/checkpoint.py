"""Options that name a checkpoint, and say what its file does not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edge_apps.progress import note
from pipeline.commands.options.common import stacked
from pipeline.commands.options.model import given_options, model_options
from pipeline.errors import BadInput

if TYPE_CHECKING:
    from pipeline.checkpoints.checkpoint import Checkpoint
    from pipeline.zoo.spec import ModelSpec, Value

F = TypeVar("F", bound=Callable[..., Any])

WEIGHTS_HELP = "'imagenet', or imagenet:SET for one of several: the published weights, downloaded; see docs/weights.md."


@dataclass(frozen=True)
class CheckpointOptions:
    """What the command line says of a checkpoint; None where nothing was given."""

    model: str | None
    input_size: int | None
    resize_to: int | None
    mean: tuple[float, float, float] | None
    std: tuple[float, float, float] | None
    labels: Path | None
    ema: bool | None
    weights: str | None
    hyperparameters: dict[str, Value]

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> CheckpointOptions:
        """Return those of a command that has ``checkpoint_options``."""
        names = ("model", "input_size", "resize_to", "mean", "std", "labels", "ema", "weights")
        return cls(**{name: values[name] for name in names}, hyperparameters=given_options(values))

    def preprocessing(self) -> dict[str, Any]:
        """Return the settings of the preprocessing that were given."""
        given: dict[str, Any] = {}
        if self.input_size is not None:
            given |= {"height": self.input_size, "width": self.input_size}
        if self.resize_to is not None:
            given |= {"resize": "crop", "resize_to": self.resize_to}
        return given | {name: value for name, value in (("mean", self.mean), ("std", self.std)) if value is not None}


def three_numbers(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    """``0.5,0.5,0.5`` as numbers; a usage error unless they are three."""
    try:
        numbers = None if value is None else tuple(float(part) for part in value.split(","))
    except ValueError:
        numbers = ()
    if numbers is not None and len(numbers) != 3:
        raise click.BadParameter(f"'{value}' is not three numbers with commas between, as in 0.5,0.5,0.5.", ctx, param)
    return numbers


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
    return stacked(
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


def named_checkpoint(text: str | None, described: CheckpointOptions) -> Callable[[], Checkpoint]:
    """Check how the user named the checkpoint (without one it is the built-in); calling the result reads it.

    So a command can check its other arguments before anything large is read, or downloaded for ``--weights``.
    ``described`` are the options beside CHECKPOINT.

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

    model, labels, weights = described.model, described.labels, described.weights
    options, preprocessing = described.hyperparameters, described.preprocessing()
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
        if described.ema is not None:
            raise BadInput("--weights are the published ones: leave --ema and --no-ema out.")
        return partial(published_weights, weights, zoo.get(text), options)
    if text is None and model is not None:
        raise BadInput(f"--model '{model}' says what a CHECKPOINT is, and none is given: give the file of its weights.")
    if text is None:
        note("No checkpoint given: using the built-in mobilenet_v2 trained on handwritten digits.")
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
        ema=described.ema,
    )


def _loaded(path: Path, **given: Any) -> Checkpoint:
    """Read a checkpoint and say how it was read; takes and raises what ``load.load`` does."""
    from pipeline.checkpoints.load import load

    checkpoint = load(path, **given)
    for text in checkpoint.notes:
        note(f"Note: {text}")
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
        note(line)
    return imported.checkpoint
