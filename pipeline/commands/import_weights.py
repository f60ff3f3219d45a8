"""``pipeline import-weights``: a published state dict to a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge_apps.console import Line, echo_json, print_parts
from edge_apps.json_text import indented
from pipeline.commands.options.checkpoint import ema_option, three_numbers
from pipeline.commands.options.common import needs_export_extra
from pipeline.commands.options.model import ModelCommand, given_options, model_options


@click.command("import-weights", cls=ModelCommand, short_help="Turn weights of torchvision or timm into a checkpoint.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--as", "model", required=True, help="The model of the zoo that they are weights of.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The checkpoint to write (.safetensors).")
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    help="A text file with one class name a line; default: ImageNet's, where there are 1,000 classes.",
)
@click.option(
    "--set",
    "set_name",
    help="The published set whose preprocessing counts (such as IMAGENET1K_V2); default: that whose sha256 FILE has.",
)
@click.option(
    "--mean",
    metavar="R,G,B",
    callback=three_numbers,
    help="Of a file that was not published: subtracted from the pixels 0…1. [default: the set's]",
)
@click.option(
    "--std", metavar="R,G,B", callback=three_numbers, help="And what they are then divided by. [default: the set's]"
)
@ema_option
@model_options()
@click.option("--force", is_flag=True, help="Replace an existing checkpoint.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def command(
    file: Path,
    model: str,
    out: Path,
    labels: Path | None,
    set_name: str | None,
    mean: tuple[float, float, float] | None,
    std: tuple[float, float, float] | None,
    ema: bool | None,
    force: bool,
    as_json: bool,
    **hyperparameters: Any,
) -> None:
    """Read FILE, a state dict of torchvision or timm (.pth, .pt, .safetensors), and write it as a checkpoint.

    Whose names the tensors have is seen from the names; every tensor must find its place and every parameter its
    tensor. What no name shows (stride placement, batch-norm eps, kernel sizes) is set as the source has it. Class
    names and preprocessing are recorded; docs/weights.md says which models and which files.
    """
    needs_export_extra()

    import msgspec

    from edge_apps.files import check_writable
    from pipeline import zoo
    from pipeline.checkpoints import checkpoint
    from pipeline.checkpoints.pretrained.importing import import_file
    from pipeline.data.label_file import read_labels
    from pipeline.errors import BadInput

    spec = zoo.get(model)
    if out.suffix != ".safetensors":
        raise BadInput(f"--out is '{out}'; a checkpoint's name ends in .safetensors.")
    if out.exists() and not force:
        raise BadInput(f"'{out}' exists: choose another --out, or replace it with --force.")
    check_writable(out)
    imported = import_file(
        file,
        spec,
        options=given_options(hyperparameters),
        labels=None if labels is None else read_labels(labels),
        set_name=set_name,
        normalisation={name: value for name, value in (("mean", mean), ("std", std)) if value is not None},
        ema=ema,
    )
    made = imported.checkpoint
    checkpoint.save(
        out,
        made.network(),
        spec=spec,
        options=made.options,
        labels=made.labels,
        preprocess=made.preprocess,
        training=made.training,
        made_from=made.sha256,
    )
    if as_json:
        document = {
            "checkpoint": str(out),
            "model": spec.name,
            "options": made.options,
            "classes": len(made.labels),
            "preprocess": msgspec.to_builtins(made.preprocess),
            "made_from": made.sha256,
            **made.training,
        }
        echo_json(indented(document))
        return
    print_parts(map(Line, (f"{out}: {spec.name}, {len(made.labels):,} classes.", *imported.notes())))
