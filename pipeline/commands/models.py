"""``pipeline models``: every network of the zoo and what it costs."""

from __future__ import annotations

import json
from typing import Any

import click

from edge_apps.console import results, table
from pipeline import zoo
from pipeline.options import needs_export_extra
from pipeline.zoo.spec import ModelSpec


@click.command("models", short_help="List the networks and what they cost.")
@click.option("--classes", type=click.IntRange(1), help="Class count. [default: each model's own]")
@click.option("--input", "input_size", type=int, help="Input side in pixels. [default: each model's own]")
@click.option("--width", type=float, help="Width multiplier, for the models that have one.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(classes: int | None, input_size: int | None, width: float | None, as_json: bool) -> None:
    """Count parameters, mult-adds, fp32 size and peak activation of every network.

    Mult-adds are multiply-accumulates of convolution and linear layers for one image. Peak activation is the
    largest tensor that one unit hands to the next, at 16 bit. MB are 10^6 bytes.
    """
    needs_export_extra()
    rows = [_row(spec, classes, input_size, width) for spec in zoo.specs().values()]
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    shown = table()
    shown.add_column("\nmodel", no_wrap=True)
    for column in ("\ninput", "\nclasses", "\nparams", "mult-adds\nM", "fp32\nMB", "peak act.\nKB"):
        shown.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        shown.add_row(
            row["name"],
            str(row["input"]),
            str(row["classes"]),
            f"{row['params']:,}",
            f"{row['mult_adds'] / 1e6:,.1f}",
            f"{row['size_mb']:.3f}",
            f"{row['peak_activation'] / 1e3:,.0f}",
        )
    results().print(shown)


def _row(spec: ModelSpec, classes: int | None, input_size: int | None, width: float | None) -> dict[str, Any]:
    import torch

    from pipeline.cost import count

    given = {"width": width} if width is not None and "width" in spec.options else {}
    size = spec.check_input(spec.input_size if input_size is None else input_size, given)
    with torch.device("meta"):
        network = spec.build(classes, **given)
    return {
        "name": spec.name,
        "title": spec.title,
        "paper": spec.paper,
        "input": size,
        "classes": spec.classes if classes is None else classes,
        "options": spec.with_defaults(given),
        **count(network, size, size).as_dict(),
    }
