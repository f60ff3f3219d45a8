"""A measurement of sensitivity as a table."""

from __future__ import annotations

from collections.abc import Iterator

from edge_apps.console import Line, Part, table
from pipeline.metrics.numbers import decibels, percent
from pipeline.metrics.sqnr import ENOUGH_IMAGES
from pipeline.sensitivity.measure import Sensitivity


def show_sensitivity(result: Sensitivity) -> Iterator[Part]:
    """Yield what was measured on what, a row for every int8 operator, the most damaging first, and how to read it."""
    worst = result.worst
    yield Line(f"{result.bundle}: {result.model} on {result.images} images of {result.data}")
    shown = table()
    shown.add_column("\noperator", overflow="fold")
    shown.add_column("\n ", no_wrap=True)
    for column in ("alone\ndB", "worst-hit\ntop-1 %", "in the\nfile dB"):
        shown.add_column(column, justify="right", no_wrap=True)
    for operator in result.by_damage():
        shown.add_row(
            operator.path,
            operator.operator,
            decibels(operator.sqnr_db),
            percent(operator.worst_top1),
            decibels(operator.file_sqnr_db),
        )
    shown.add_row("all of them", "", decibels(result.int8_sqnr_db), percent(worst.int8_top1), "")
    shown.add_row("none: the float network", "", "", percent(worst.float_top1), "")
    yield shown
    yield Line("alone: SQNR of the logits when only this operator computes in int8.")
    hit = "image" if worst.images == 1 else f"{worst.images} images"
    yield Line(
        f"worst-hit: the {hit} whose logits the whole int8 network changes most; top-1 there with only this operator "
        "in int8."
    )
    file = result.file
    if file.reason is None:
        yield Line(
            f"in the file: SQNR of its tensor in {file.path} ({file.runtime}, {file.images} images), where all before "
            f"it is int8 too; found for {file.matched} of {file.operators}."
        )
    else:
        yield Line(f"in the file: not looked into. {file.reason}")
    yield Line(f"int8 and float agree on {100 * result.int8_agreement:.0f} % of the images.")
    for path, word in result.verdicts.items():
        if word != "good":
            yield Line(f"The export's verdict on {path} is '{word}': see the bundle's manifest.")
    if result.images < ENOUGH_IMAGES:
        yield Line(f"Looked at only {result.images} images: the figures are indicative.")
    if result.float_layers:
        yield Line(f"Kept in float by the recipe: {', '.join(result.float_layers)}.")
