"""Verdicts of the gate as people read them."""

from __future__ import annotations

from collections.abc import Iterator

from rich.markup import escape

from edge_apps.console import Line, Part
from pipeline.evaluation.per_class import Suspects
from pipeline.evaluation.results import EvaluationResult, FileResult
from pipeline.evaluation.show import WIDE, Column, drop_header, file_columns, files, parity, top1
from pipeline.gating.judge import GateResult
from pipeline.metrics.numbers import drop_with_interval, percent

STYLES = {"passed": "green", "failed": "red", "undecided": "yellow", "not run": "yellow", "not run (allowed)": "dim"}


def show_gate(result: GateResult, width: int) -> Iterator[Part]:
    """Yield each file's verdict, why those that did not pass did not, and the verdict on the whole."""
    verdicts = {file.path: file for file in result.files}

    def verdict(file: FileResult) -> str:
        said = verdicts[file.path].verdict
        return f"[{STYLES[said]}]{said}[/]"

    def drop(file: FileResult) -> str:
        judged = verdicts[file.path]
        if judged.drop_points is None or judged.interval_points is None:
            return "–"
        return escape(drop_with_interval(judged.drop_points, judged.interval_points))

    def flagged(file: FileResult) -> str:
        classes = verdicts[file.path].classes
        return escape(name_flagged(classes)) if classes is not None and classes.flagged else "–"

    columns = [
        Column("\nverdict", verdict, lambda _: "", numeric=False),
        *file_columns(width >= WIDE),
        Column("top-1\n%", top1, lambda reference: percent(reference.top1)),
    ]
    if result.evaluation.against is not None:
        columns.append(Column("before\n%", _before, lambda _: ""))
    columns.append(Column(drop_header(result.policy.confidence), drop, lambda _: "reference"))
    if any(file.classes is not None and file.classes.flagged for file in result.files):
        columns.append(Column("flagged\nclasses", flagged, lambda _: "", numeric=False))
    yield from files(result.evaluation, columns)
    yield from parity(result.evaluation)
    why = list(_why(result))
    yield from map(Line, ["", *why] if why else [])
    yield Line(result.message, style=STYLES[result.verdict])


def name_flagged(classes: Suspects) -> str:
    """``cat −62.0``, the worst one, and how many more."""
    worst, *more = classes.flagged
    return f"{worst.label} −{worst.points:.1f}" + (f", +{len(more)}" if more else "")


def _before(file: FileResult) -> str:
    if file.comparison is None:
        return "–"
    table = file.comparison.table()
    return percent((table.both + table.lost) / table.n)


def _why(result: GateResult) -> Iterator[str]:
    """Why files did not pass, and what else there is to know of them and of the gate."""
    for file in result.files:
        if file.verdict in ("failed", "undecided") and file.message != _reason(result.evaluation, file.path):
            yield f"{file.path}: {file.message}"
        for note in file.notes:
            yield f"{file.path}: {note}"
    yield from result.notes


def _reason(result: EvaluationResult, path: str) -> str | None:
    """What was already said below the table."""
    return next(file.reason for file in result.files if file.path == path)
