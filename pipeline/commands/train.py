"""``pipeline train``: from labelled pictures to a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import click

from calibration.recipe import Observer
from edge_apps import progress
from edge_apps.chatter import hushed
from edge_apps.console import results
from pipeline.commands.options.calibration import RecipeOptions
from pipeline.commands.options.checkpoint import WEIGHTS_HELP, published_weights
from pipeline.commands.options.common import command_line, needs_export_extra, taken
from pipeline.commands.options.data import DATA_HELP
from pipeline.commands.options.model import ModelCommand, given_options, model_options
from pipeline.training.settings import DEFAULT_LR, DEFAULT_WEIGHT_DECAY, QAT_LR, Augmentation, Optimizer, Schedule
from pipeline.training.settings import Precision as TrainingPrecision

if TYPE_CHECKING:
    from calibration.recipe import Recipe
    from pipeline.checkpoints.checkpoint import Checkpoint
    from pipeline.zoo.spec import Value

NOT_RECORDED = frozenset({"restart", "force"})


def _by_optimizer(values: Mapping[Optimizer, float]) -> str:
    return ", ".join(f"{value:g} with {name}" for name, value in values.items())


@dataclass(frozen=True)
class TrainOptions:
    """How to train, beside the network, its data, and the int8 that is simulated."""

    input_size: int | None
    weights: str | None
    qat: Path | None
    batch_size: int | None
    optimizer: Optimizer
    lr: float | None
    weight_decay: float | None
    schedule: Schedule
    label_smoothing: float
    ema: float
    seed: int
    augment: Augmentation | Literal["auto"]
    precision: TrainingPrecision
    device: str
    threads: int | None
    dtype: str
    skip_corrupt: bool
    restart: bool
    force: bool


@click.command("train", cls=ModelCommand, short_help="Train a network on labelled pictures.")
@click.argument("model", required=False)
@click.option("--data", required=True, help=DATA_HELP)
@click.option("--val", help="Pictures to measure on after every epoch; the weights are not chosen by them.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The checkpoint to write (.safetensors).")
@click.option("--epochs", required=True, type=click.IntRange(1), help="Passes over the pictures.")
@click.option("--input", "input_size", type=int, help="Input side in pixels; default: the model's.")
@click.option("--weights", help=f"What to start from, instead of at random: {WEIGHTS_HELP}")
@click.option(
    "--qat",
    metavar="CHECKPOINT",
    type=click.Path(path_type=Path),
    help="Train a trained checkpoint on with int8 simulated, so that its int8 files lose less; see docs/qat.md.",
)
@click.option(
    "--recipe",
    "recipe_file",
    type=click.Path(path_type=Path),
    help="With --qat: the int8 that is simulated, a TOML file; see docs/recipe.md.",
)
@click.option(
    "--observer",
    type=click.Choice(get_args(Observer)),
    help="With --qat: how ranges are chosen; overrides the recipe.",
)
@click.option(
    "--scales",
    type=click.Choice(["per-channel", "per-tensor"]),
    help="With --qat: one scale of weights for each output channel, or for each layer; overrides the recipe.",
)
@click.option(
    "--repair",
    "repairs",
    multiple=True,
    metavar="equalize",
    help="With --qat: train the weights as equalisation scales them; overrides the recipe.",
)
@click.option("--calibration-size", type=int, help="With --qat: number of calibration images; overrides the recipe.")
@model_options()
@click.option(
    "--batch-size",
    type=click.IntRange(2),
    help="Images in a training step; default: 128, and down to 8 with fewer than 512 images.",
)
@click.option("--optimizer", type=click.Choice(["adamw", "sgd"]), default="adamw", show_default=True)
@click.option(
    "--lr",
    type=click.FloatRange(0, min_open=True),
    help=f"Highest learning rate; default: {_by_optimizer(DEFAULT_LR)}; with --qat {_by_optimizer(QAT_LR)}.",
)
@click.option(
    "--weight-decay",
    type=click.FloatRange(0),
    help=f"Of everything but biases; default: {_by_optimizer(DEFAULT_WEIGHT_DECAY)}.",
)
@click.option("--schedule", type=click.Choice(["onecycle", "cosine"]), default="onecycle", show_default=True)
@click.option("--label-smoothing", type=click.FloatRange(0, 1, max_open=True), default=0.1, show_default=True)
@click.option(
    "--ema",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.998,
    show_default=True,
    help="Decay of the moving average that becomes the checkpoint; 0: the last weights.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option(
    "--augment",
    type=click.Choice(["auto", "none", "flip-crop", "crop", "affine"]),
    default="auto",
    show_default=True,
    help="auto: small turns and shifts ('affine') for digits, flips and crops for the rest.",
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16"]),
    default="auto",
    show_default=True,
    help="auto: bf16 where the hardware has it and timed steps are clearly faster with it, twice; else fp32, as with "
    "--qat and for a network that fails in bf16.",
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--threads", type=click.IntRange(1), help="CPU threads; default: all cores.")
@click.option("--dtype", type=click.Choice(["fp32", "fp16"]), default="fp32", show_default=True, help="Of the file.")
@click.option("--skip-corrupt", is_flag=True, help="Leave corrupt pictures out and list them, instead of stopping.")
@click.option("--restart", is_flag=True, help="Discard the state of an interrupted training instead of resuming it.")
@click.option("--force", is_flag=True, help="Replace an existing checkpoint.")
@click.pass_context
def command(
    ctx: click.Context, /, model: str | None, data: str, val: str | None, out: Path, epochs: int, **values: Any
) -> None:
    """Train MODEL on labelled pictures and write a checkpoint.

    MODEL is a network of the zoo ('pipeline models'), or your own as file.py:factory or package.module:factory. With
    --qat it may be left out where it is of the zoo: the checkpoint says it, and its options, input size and labels.

    An interrupted training goes on when the same command is given again: its state lies beside the checkpoint
    (OUT.state) and is written after every epoch.
    """
    given = taken(TrainOptions, values)
    qat, recipe = given.qat, _recipe(given, _simulated(values))
    needs_export_extra(torchao=qat is not None)

    import torch

    from pipeline.checkpoints import user_networks
    from pipeline.data import open_data
    from pipeline.data.reading import digest, usable
    from pipeline.errors import BadInput

    with hushed():  # torchao, by which networks are captured, tells of its GPU kernels that do not load
        from pipeline.training.job import Job, train
    from pipeline.training.settings import Settings, default_batch_size
    from pipeline.training.state import state_path

    if model is None and qat is None:
        raise BadInput("Missing MODEL: name a network of the zoo ('pipeline models'), or your own as file.py:factory.")
    if model is not None and model.endswith(user_networks.PROGRAM):
        raise BadInput(
            f"'{model}' is an exported program, which cannot be trained: train the network that it was exported from, "
            "as file.py:factory."
        )
    chosen = given_options(values)
    tuned = None if qat is None else _trained(qat, model, chosen, given.input_size)
    spec = user_networks.find(str(model)) if tuned is None else tuned.spec
    options = spec.with_defaults(chosen) if tuned is None else tuned.options
    if out.suffix != ".safetensors":
        raise BadInput(f"--out is '{out}'; a checkpoint's name ends in .safetensors.")
    if out.exists() and not given.force:
        raise BadInput(f"'{out}' exists: choose another --out, or replace it with --force.")
    if qat is not None and out.resolve() == qat.resolve():
        raise BadInput("--out is the checkpoint of --qat, whose float network the result is compared with: keep both.")
    if given.threads:
        torch.set_num_threads(given.threads)
    images, held_out = open_data(data, "train"), None if val is None else open_data(val, "val")
    skipped: list[str] = []
    if given.skip_corrupt:
        images, skipped = usable(images, True)
        if held_out is not None:
            held_out, more = usable(held_out, True)
            skipped = skipped + more
        progress.note("\n".join([f"Corrupt pictures left out: {len(skipped)}.", *skipped]))
    optimizer, weight_decay, augment = given.optimizer, given.weight_decay, given.augment
    if augment == "auto":
        augment = "affine" if data.partition(":")[0] == "digits" else "flip-crop"
    weights = None if given.weights is None else published_weights(given.weights, spec, chosen)
    side = spec.input_size if tuned is None else tuned.preprocess.height
    settings = Settings(
        model=spec.name,
        options=options if weights is None else weights.options,
        input=side if given.input_size is None else given.input_size,
        data=digest(images),
        epochs=epochs,
        batch_size=given.batch_size or default_batch_size(len(images)),
        optimizer=optimizer,
        lr=given.lr or (DEFAULT_LR if tuned is None else QAT_LR)[optimizer],
        weight_decay=DEFAULT_WEIGHT_DECAY[optimizer] if weight_decay is None else weight_decay,
        schedule=given.schedule,
        label_smoothing=given.label_smoothing,
        ema=given.ema,
        seed=given.seed,
        augment=augment,
        precision=given.precision,
        weights=None if weights is None else weights.path.name,
        qat=None if tuned is None else tuned.sha256,
        recipe=recipe,
    )
    job = Job(
        spec=spec,
        settings=settings,
        data=images,
        val=held_out,
        out=out,
        dtype=torch.float16 if given.dtype == "fp16" else torch.float32,
        device=given.device,
        restart=given.restart,
        skipped=tuple(skipped),
        command=command_line(ctx, NOT_RECORDED),
        weights=weights or tuned,
    )
    try:
        trained = train(job)
    except KeyboardInterrupt:
        if state_path(out).exists():
            progress.note("Stopped. The same command goes on after the last whole epoch.")
        raise
    show = results()
    show.out(f"{out}: top-1 {trained.on_training} on training images")
    if held_out is None:
        show.out("Its accuracy on other images is unknown: give --val to measure it, or evaluate the exported files.")
    if held_out is not None and trained.correct is not None:
        share = f"{trained.correct / len(held_out):.2%} ({trained.correct} of {len(held_out)})"
        show.out(f"{held_out.name}: top-1 {share}")
        if trained.int8_correct is not None:
            share = f"{trained.int8_correct / len(held_out):.2%} ({trained.int8_correct} of {len(held_out)})"
            show.out(f"{held_out.name}: top-1 {share} with int8 simulated")


def _simulated(values: Mapping[str, Any]) -> RecipeOptions:
    """The recipe of ``--qat``; its images and their draw are those of the training."""
    names = ("recipe_file", "observer", "scales", "repairs", "calibration_size")
    return RecipeOptions(**{name: values[name] for name in names})


def _recipe(given: TrainOptions, asked: RecipeOptions) -> Recipe | None:
    """The int8 to simulate, or None without ``--qat``; ``BadInput`` where options contradict each other."""
    from pipeline.errors import BadInput

    if given.qat is None:
        if asked.is_given():
            raise BadInput(
                "--recipe, --observer, --scales, --repair and --calibration-size say what --qat simulates: give --qat."
            )
        return None
    if given.weights is not None:
        raise BadInput("--qat trains a checkpoint on and --weights starts a new one: leave one of them out.")
    if given.precision == "bf16":
        raise BadInput("--qat computes in fp32: bf16 is no finer than the int8 that is simulated in it.")
    recipe = asked.recipe()
    late = [name for name in recipe.repairs if name != "equalize"]
    if late:
        raise BadInput(
            f"--qat trains the weights that {' and '.join(late)} would repair: of repairs it takes equalize only; give "
            "the others to 'pipeline export' if they are still needed."
        )
    return recipe


def _trained(path: Path, model: str | None, options: Mapping[str, Value], side: int | None) -> Checkpoint:
    """The checkpoint of ``--qat``, which what else was given must not contradict."""
    from pipeline.checkpoints import user_networks
    from pipeline.checkpoints.formats import Format
    from pipeline.checkpoints.load import load, read
    from pipeline.errors import BadInput

    contents = read(path)
    if contents.format is Format.PROGRAM:
        raise BadInput(
            f"--qat '{path}' is an exported program, which cannot be trained: give the checkpoint that it was exported "
            "from."
        )
    metadata = contents.metadata
    if metadata is None:
        raise BadInput(
            f"--qat '{path}' does not say what it is: export it first, and give the bundle's "
            "float/checkpoint.safetensors."
        )
    if model is None and user_networks.is_reference(metadata.model):
        raise BadInput(f"'{path}' is of your own network: name it, as in 'pipeline train …/{metadata.model} --qat …'.")
    preprocess = None if side is None else {"height": side, "width": side}
    return load(path, model=model, options=options or None, preprocess=preprocess)
