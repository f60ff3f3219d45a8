"""``pipeline train``: from labelled pictures to a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from edge_apps.console import progress, results
from pipeline.model_options import ModelCommand, given_options, model_options
from pipeline.options import WEIGHTS_HELP, command_line, needs_export_extra, published_weights
from pipeline.training.settings import DEFAULT_LR, DEFAULT_WEIGHT_DECAY, Optimizer

NOT_RECORDED = frozenset({"restart", "force"})


def _by_optimizer(values: Mapping[Optimizer, float]) -> str:
    return ", ".join(f"{value:g} with {name}" for name, value in values.items())


@click.command("train", cls=ModelCommand, short_help="Train a network on labelled pictures.")
@click.argument("model")
@click.option("--data", required=True, help="'digits', a folder of class folders, or an uncompressed tar of one.")
@click.option("--val", help="Pictures to measure on after every epoch; the weights are not chosen by them.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The checkpoint to write (.safetensors).")
@click.option("--epochs", required=True, type=click.IntRange(1), help="Passes over the pictures.")
@click.option("--input", "input_size", type=int, help="Input side in pixels; default: the model's.")
@click.option("--weights", help=f"What to start from, instead of at random: {WEIGHTS_HELP}")
@model_options()
@click.option("--batch-size", type=click.IntRange(2), default=128, show_default=True)
@click.option("--optimizer", type=click.Choice(["adamw", "sgd"]), default="adamw", show_default=True)
@click.option(
    "--lr",
    type=click.FloatRange(0, min_open=True),
    help=f"Highest learning rate; default: {_by_optimizer(DEFAULT_LR)}.",
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
    help="auto: bf16 on a GPU that has it; on a CPU that has it, the faster of the two in a few timed steps.",
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--threads", type=click.IntRange(1), help="CPU threads; default: all cores.")
@click.option("--dtype", type=click.Choice(["fp32", "fp16"]), default="fp32", show_default=True, help="Of the file.")
@click.option("--skip-corrupt", is_flag=True, help="Leave corrupt pictures out and list them, instead of stopping.")
@click.option("--restart", is_flag=True, help="Discard the state of an interrupted training instead of resuming it.")
@click.option("--force", is_flag=True, help="Replace an existing checkpoint.")
@click.pass_context
def command(
    ctx: click.Context, /, model: str, data: str, val: str | None, out: Path, epochs: int, **given: Any
) -> None:
    """Train MODEL on labelled pictures and write a checkpoint.

    MODEL is a network of the zoo ('pipeline models'), or your own as file.py:factory or package.module:factory.

    An interrupted training goes on when the same command is given again: its state lies beside the checkpoint
    (OUT.state) and is written after every epoch.
    """
    needs_export_extra()

    import torch

    from pipeline.data import open_data
    from pipeline.data.reading import digest, usable
    from pipeline.errors import BadInput
    from pipeline.networks import own
    from pipeline.training.job import Job, train
    from pipeline.training.settings import Settings
    from pipeline.training.state import state_path

    if model.endswith(own.PROGRAM):
        raise BadInput(
            f"'{model}' is an exported program, which cannot be trained: train the network that it was exported from, "
            "as file.py:factory."
        )
    spec, console = own.find(model), progress()
    chosen = given_options(given)
    options = spec.with_defaults(chosen)
    if out.suffix != ".safetensors":
        raise BadInput(f"--out is '{out}'; a checkpoint's name ends in .safetensors.")
    if out.exists() and not given["force"]:
        raise BadInput(f"'{out}' exists: choose another --out, or replace it with --force.")
    if given["threads"]:
        torch.set_num_threads(given["threads"])
    images, held_out = open_data(data, "train"), None if val is None else open_data(val, "test")
    skipped: list[str] = []
    if given["skip_corrupt"]:
        images, skipped = usable(images, True)
        if held_out is not None:
            held_out, more = usable(held_out, True)
            skipped = skipped + more
        console.out("\n".join([f"Corrupt pictures left out: {len(skipped)}.", *skipped]))
    optimizer, weight_decay, augment = given["optimizer"], given["weight_decay"], given["augment"]
    if augment == "auto":
        augment = "affine" if data.partition(":")[0] == "digits" else "flip-crop"
    weights = None if given["weights"] is None else published_weights(given["weights"], spec, chosen)
    settings = Settings(
        model=spec.name,
        options=options if weights is None else weights.options,
        input=spec.input_size if given["input_size"] is None else given["input_size"],
        data=digest(images),
        epochs=epochs,
        batch_size=given["batch_size"],
        optimizer=optimizer,
        lr=given["lr"] or DEFAULT_LR[optimizer],
        weight_decay=DEFAULT_WEIGHT_DECAY[optimizer] if weight_decay is None else weight_decay,
        schedule=given["schedule"],
        label_smoothing=given["label_smoothing"],
        ema=given["ema"],
        seed=given["seed"],
        augment=augment,
        precision=given["precision"],
        weights=None if weights is None else weights.path.name,
    )
    job = Job(
        spec=spec,
        settings=settings,
        data=images,
        val=held_out,
        out=out,
        dtype=torch.float16 if given["dtype"] == "fp16" else torch.float32,
        device=given["device"],
        restart=given["restart"],
        skipped=tuple(skipped),
        command=command_line(ctx, NOT_RECORDED),
        weights=weights,
    )
    try:
        trained = train(job, console)
    except KeyboardInterrupt:
        if state_path(out).exists():
            console.out("Stopped. The same command goes on after the last whole epoch.")
        raise
    show = results()
    show.out(f"{out}: loss {trained.last.loss:.4f}, train top-1 {trained.last.top1:.2%}")
    if held_out is not None and trained.correct is not None:
        share = f"{trained.correct / len(held_out):.2%} ({trained.correct} of {len(held_out)})"
        show.out(f"{held_out.name}: top-1 {share}")
