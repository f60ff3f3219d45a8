"""Evaluations as people read them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from rich.markup import escape

from edge_apps.console import Line, Part, table
from pipeline.evaluation.parity import ENOUGH_DB
from pipeline.evaluation.per_class import worst_classes
from pipeline.evaluation.results import EvaluationResult, FileResult, ReferenceResult
from pipeline.metrics.numbers import decibels, drop_with_interval, percent, signed

WIDE = 120
"""Columns of a terminal from which the whole table fits. Below, what a file's name says and what matters least go."""


@dataclass(frozen=True)
class Column:
    """A column of a table of files: its heading, and what it says of a file and of the float network."""

    header: str
    of_file: Callable[[FileResult], str]
    of_reference: Callable[[ReferenceResult], str]
    numeric: bool = True


def show_evaluation(result: EvaluationResult, width: int) -> Iterator[Part]:
    """Yield the data, a row for the float network and for every file, and what the columns mean.

    Below ``WIDE`` columns what a file's name says, and what matters least, is left out.
    """
    wide = width >= WIDE
    columns = [*file_columns(wide), Column("top-1\n%", top1, lambda reference: percent(reference.top1))]
    if result.classes > 5:
        columns.append(Column("top-5\n%", _top5, lambda reference: percent(reference.top5)))
    if result.reference is not None:
        columns.append(Column(drop_header(result.confidence), _drop, lambda _: "reference"))
        columns.append(Column("agree-\nment %", _agreement, lambda _: ""))
        if wide:
            columns.append(Column("McNemar\np", _p, lambda _: ""))
    if wide:
        columns.append(Column("images\nper s", _speed, lambda reference: f"{reference.images_per_second:,.0f}"))
    yield from files(result, columns)
    yield from parity(result)
    for file in result.files:
        for said in filter(None, (file.unlike_manifest, file.uncounted)):
            yield Line(f"{file.path}: {said}")
    if wide:
        yield from map(Line, _worst(result))
    yield from map(Line, _legend(result, wide))


def files(result: EvaluationResult, columns: Sequence[Column]) -> Iterator[Part]:
    """Yield the data, the table, and why files have no numbers."""
    yield Line(f"{result.data}: {result.images} images, {result.covered()}")
    shown = table()
    for column in columns:
        if column.numeric:
            shown.add_column(escape(column.header), justify="right", no_wrap=True)
        else:
            shown.add_column(column.header, overflow="fold")
    if result.reference is not None:
        reference = result.reference
        shown.add_row(*(column.of_reference(reference) for column in columns))
    for file in result.files:
        shown.add_row(*(column.of_file(file) for column in columns))
    yield shown
    yield from map(Line, _remarks(result))


def parity(result: EvaluationResult) -> Iterator[Part]:
    """Yield a row for every int8 file: its answers compared with those of its own graph, simulated."""
    compared = [(file.path, file.drift) for file in result.files if file.drift is not None]
    if not compared:
        return
    images = compared[0][1].images
    of = f"the same {images}" if images == result.images else f"{images} of the {result.images}"
    yield Line(f"\nint8 files against their own quantized graph, simulated on {of} images")
    shown = table()
    shown.add_column("\nfile", overflow="fold")
    for header in ("SQNR\ndB", "agree-\nment %", "top-1 %\nsimulated", "drift\npoints"):
        shown.add_column(header, justify="right", no_wrap=True)
    for path, drift in compared:
        shown.add_row(
            escape(path),
            _coloured(drift.sqnr_db),
            percent(drift.agreement),
            percent(drift.simulated_top1),
            signed(drift.drop_points),
        )
    yield shown


def _coloured(sqnr_db: float) -> str:
    return decibels(sqnr_db) if sqnr_db >= ENOUGH_DB else f"[yellow]{decibels(sqnr_db)}[/]"


def _worst(result: EvaluationResult) -> Iterator[str]:
    """The classes that lost most, of the files that lost any."""
    for file in result.files:
        if file.comparison is not None:
            worst = worst_classes(file.comparison, result.labels)
            if worst:
                named = ", ".join(f"{label} ({points:.1f} points)" for label, points in worst)
                yield f"{file.path}: lost most in {named}"


def file_columns(wide: bool) -> list[Column]:
    """Return the columns that name a file."""
    file = Column("\nfile", lambda file: escape(file.path), lambda _: "float network", numeric=False)
    if not wide:
        return [file]
    return [
        file,
        Column("\ntarget", lambda file: escape(file.target or "–"), lambda _: "torch", numeric=False),
        Column("\nprecision", lambda file: escape(file.precision or "–"), lambda _: "fp32", numeric=False),
    ]


def drop_header(confidence: float) -> str:
    """Return the heading of a drop with its interval."""
    return f"drop, points\n[{_level(confidence)} interval]"


def top1(file: FileResult) -> str:
    """Return the top-1 of a file, or why it has none."""
    return percent(file.top1) if file.status == "run" else file.status


def _top5(file: FileResult) -> str:
    return percent(file.top5)


def _drop(file: FileResult) -> str:
    if file.comparison is None:
        return "–"
    return escape(drop_with_interval(file.comparison.drop_points, file.comparison.interval_points))


def _agreement(file: FileResult) -> str:
    return "–" if file.comparison is None else percent(file.comparison.agreement)


def _p(file: FileResult) -> str:
    return "–" if file.comparison is None else f"{file.comparison.mcnemar_p:.2g}"


def _speed(file: FileResult) -> str:
    return "–" if file.images_per_second is None else f"{file.images_per_second:,.0f}"


def _level(confidence: float) -> str:
    return f"{100 * confidence:g} %"


def _legend(result: EvaluationResult, wide: bool) -> list[str]:
    lines = []
    if result.reference is None:
        lines.append("No reference, so no drop: give `reference` CHECKPOINT to see what was lost.")
    else:
        lines.append(
            f"drop: top-1 lost against the float network on the same images, with its {_level(result.confidence)} "
            "Tango score interval; minus is a gain."
        )
    if result.reference is not None and wide:
        lines.append("McNemar p: how often equals would split the images they disagree on as unevenly.")
    if wide:
        threads = "1 thread" if result.threads == 1 else f"{result.threads} threads"
        lines.append(f"images per s: this evaluation's, on {threads}; it is not a device's latency.")
    else:
        lines.append(f"A terminal of {WIDE} columns also shows target, precision, McNemar's p and images per second.")
    return lines


def _remarks(result: EvaluationResult) -> list[str]:
    """Why files have no numbers, and what there is to know of the data."""
    lines = []
    for file in result.files:
        if file.reason is not None:
            named = PurePath(file.path).name in file.reason
            lines.append(file.reason if named else f"{file.path}: {file.status}: {file.reason}")
    return [*lines, *about_data(result)]


def about_data(result: EvaluationResult) -> list[str]:
    """Which pictures were left out, which classes nothing was measured on, and what is unusual."""
    lines = []
    if result.absent_classes:
        lines.append(
            f"No folder for {len(result.absent_classes)} of {result.classes} classes: {_first(result.absent_classes)}."
        )
    if result.skipped:
        lines.append(f"{len(result.skipped)} corrupt images left out: {_first(result.skipped)}.")
    if result.repeated:
        lines.append(f"{len(result.repeated)} copies of other images left out: {_first(result.repeated)}.")
    return [*lines, *result.notes]


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
