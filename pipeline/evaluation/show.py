"""Evaluations and verdicts as people read them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from rich.console import Console
from rich.markup import escape

from edge_apps.console import table
from pipeline.evaluation.parity import ENOUGH_DB
from pipeline.evaluation.per_class import Suspects, worst_classes
from pipeline.evaluation.results import Drift, EvaluationResult, FileResult, ReferenceResult
from pipeline.gating.judge import GateResult
from pipeline.metrics.sqnr import EQUAL_DB

WIDE = 120
"""Columns of a terminal from which the whole table fits. Below, what a file's name says and what matters least go."""

_STYLES = {"passed": "green", "failed": "red", "undecided": "yellow", "not run": "yellow", "not run (allowed)": "dim"}


@dataclass(frozen=True)
class _Column:
    header: str
    of_file: Callable[[FileResult], str]
    of_reference: Callable[[ReferenceResult], str]
    numeric: bool = True


def show_evaluation(result: EvaluationResult, console: Console) -> None:
    """Print the data, a row for the float network and for every file, and what the columns mean."""
    wide = console.width >= WIDE
    columns = [*_names(wide), _Column("top-1\n%", _top1, lambda reference: percent(reference.top1))]
    if result.classes > 5:
        columns.append(_Column("top-5\n%", _top5, lambda reference: percent(reference.top5)))
    if result.reference is not None:
        columns.append(_Column(_drop_header(result.confidence), _drop, lambda _: "reference"))
        columns.append(_Column("agree-\nment %", _agreement, lambda _: ""))
        if wide:
            columns.append(_Column("McNemar\np", _p, lambda _: ""))
    if wide:
        columns.append(_Column("images\nper s", _speed, lambda reference: f"{reference.images_per_second:,.0f}"))
    _print(result, columns, console)
    _print_drift(result, console)
    for file in result.files:
        for said in filter(None, (file.unlike_manifest, file.uncounted)):
            console.print(f"{file.path}: {said}", markup=False, soft_wrap=True)
    if wide:
        for line in _worst(result):
            console.print(line, markup=False, soft_wrap=True)
    for line in _legend(result, wide):
        console.print(line, soft_wrap=True)


def show_gate(result: GateResult, console: Console) -> None:
    """Print each file's verdict, why those that did not pass did not, and the verdict on the whole."""
    verdicts = {file.path: file for file in result.files}

    def verdict(file: FileResult) -> str:
        said = verdicts[file.path].verdict
        return f"[{_STYLES[said]}]{said}[/]"

    def drop(file: FileResult) -> str:
        judged = verdicts[file.path]
        if judged.drop_points is None or judged.interval_points is None:
            return "–"
        return escape(drop_with_interval(judged.drop_points, judged.interval_points))

    def flagged(file: FileResult) -> str:
        classes = verdicts[file.path].classes
        return escape(name_flagged(classes)) if classes is not None and classes.flagged else "–"

    columns = [
        _Column("\nverdict", verdict, lambda _: "", numeric=False),
        *_names(console.width >= WIDE),
        _Column("top-1\n%", _top1, lambda reference: percent(reference.top1)),
    ]
    if result.evaluation.against is not None:
        columns.append(_Column("before\n%", _before, lambda _: ""))
    columns.append(_Column(_drop_header(result.policy.confidence), drop, lambda _: "reference"))
    if any(file.classes is not None and file.classes.flagged for file in result.files):
        columns.append(_Column("flagged\nclasses", flagged, lambda _: "", numeric=False))
    _print(result.evaluation, columns, console)
    _print_drift(result.evaluation, console)
    why = list(_why(result))
    for line in ["", *why] if why else []:
        console.print(line, markup=False, soft_wrap=True)
    console.print(result.message, style=_STYLES[result.verdict], markup=False, soft_wrap=True)


def percent(fraction: float | None) -> str:
    """0.9187 as ``91.87``; a dash for what was not measured."""
    return "–" if fraction is None else f"{100 * fraction:.2f}"


def signed(points: float) -> str:
    """Two decimals with their sign, a true minus, and no sign for what rounds to zero."""
    text = f"{points:+.2f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def drop_with_interval(points: float, interval: tuple[float, float]) -> str:
    """As ``+0.44 [−0.28, +1.25]``."""
    return f"{signed(points)} [{signed(interval[0])}, {signed(interval[1])}]"


def _print(result: EvaluationResult, columns: Sequence[_Column], console: Console) -> None:
    console.print(f"{result.data}: {result.images} images, {result.covered()}", markup=False, soft_wrap=True)
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
    console.print(shown)
    for line in _remarks(result):
        console.print(line, markup=False, soft_wrap=True)


def name_flagged(classes: Suspects) -> str:
    """``cat −62.0``, the worst one, and how many more."""
    worst, *more = classes.flagged
    return f"{worst.label} −{worst.points:.1f}" + (f", +{len(more)}" if more else "")


def decibels(drift: Drift) -> str:
    """``47.8``, or ``equal``."""
    return "equal" if drift.sqnr_db >= EQUAL_DB else f"{drift.sqnr_db:.1f}"


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


def _print_drift(result: EvaluationResult, console: Console) -> None:
    """A row for every int8 file: what it answers against what its own graph, simulated, answers."""
    compared = [(file.path, file.drift) for file in result.files if file.drift is not None]
    if not compared:
        return
    images = compared[0][1].images
    of = f"the same {images}" if images == result.images else f"{images} of the {result.images}"
    console.print(f"\nint8 files against their own quantized graph, simulated on {of} images", soft_wrap=True)
    shown = table()
    shown.add_column("\nfile", overflow="fold")
    for header in ("SQNR\ndB", "agree-\nment %", "top-1 %\nsimulated", "drift\npoints"):
        shown.add_column(header, justify="right", no_wrap=True)
    for path, drift in compared:
        shown.add_row(
            escape(path),
            decibels(drift) if drift.sqnr_db >= ENOUGH_DB else f"[yellow]{decibels(drift)}[/]",
            percent(drift.agreement),
            percent(drift.simulated_top1),
            signed(drift.drop_points),
        )
    console.print(shown)


def _worst(result: EvaluationResult) -> Iterator[str]:
    """The classes that lost most, of the files that lost any."""
    for file in result.files:
        if file.comparison is not None:
            worst = worst_classes(file.comparison, result.labels)
            if worst:
                named = ", ".join(f"{label} ({points:.1f} points)" for label, points in worst)
                yield f"{file.path}: lost most in {named}"


def _names(wide: bool) -> list[_Column]:
    file = _Column("\nfile", lambda file: escape(file.path), lambda _: "float network", numeric=False)
    if not wide:
        return [file]
    return [
        file,
        _Column("\ntarget", lambda file: escape(file.target or "–"), lambda _: "torch", numeric=False),
        _Column("\nprecision", lambda file: escape(file.precision or "–"), lambda _: "fp32", numeric=False),
    ]


def _drop_header(confidence: float) -> str:
    return f"drop, points\n[{_level(confidence)} interval]"


def _top1(file: FileResult) -> str:
    return percent(file.top1) if file.status == "run" else file.status


def _before(file: FileResult) -> str:
    if file.comparison is None:
        return "–"
    table = file.comparison.table()
    return percent((table.both + table.lost) / table.n)


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
