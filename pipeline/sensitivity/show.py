"""A measurement of sensitivity as a table."""

from __future__ import annotations

from rich.console import Console

from edge_apps.console import table
from pipeline.evaluation.show import percent
from pipeline.metrics.sqnr import ENOUGH_IMAGES, EQUAL_DB
from pipeline.sensitivity.measure import Sensitivity


def show_sensitivity(result: Sensitivity, console: Console) -> None:
    """Print what was measured on what, a row for every int8 operator, the most damaging first, and how to read it."""

    def say(line: str) -> None:
        console.print(line, markup=False, soft_wrap=True)

    worst = result.worst
    say(f"{result.bundle}: {result.model} on {result.images} images of {result.data}")
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
    console.print(shown)
    say("alone: SQNR of the logits when only this operator computes in int8.")
    hit = "image" if worst.images == 1 else f"{worst.images} images"
    say(
        f"worst-hit: the {hit} whose logits the whole int8 network changes most; top-1 there with only this operator "
        "in int8."
    )
    file = result.file
    if file.reason is None:
        say(
            f"in the file: SQNR of its tensor in {file.path} ({file.runtime}, {file.images} images), where all before "
            f"it is int8 too; found for {file.matched} of {file.operators}."
        )
    else:
        say(f"in the file: not looked into. {file.reason}")
    say(f"int8 and float agree on {100 * result.int8_agreement:.0f} % of the images.")
    for path, word in result.verdicts.items():
        if word != "good":
            say(f"The export's verdict on {path} is '{word}': see the bundle's manifest.")
    if result.images < ENOUGH_IMAGES:
        say(f"Looked at only {result.images} images: the figures are indicative.")
    if result.float_layers:
        say(f"Kept in float by the recipe: {', '.join(result.float_layers)}.")


def decibels(value: float | None) -> str:
    """One decimal; a dash for what was not measured."""
    return "–" if value is None else "equal" if value >= EQUAL_DB else f"{value:.1f}"
