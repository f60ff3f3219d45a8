"""An evaluation as people read it."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.accuracy.results import Comparison, EvaluationResult, FileResult


def show_evaluation(result: EvaluationResult, console: Console, verdicts: Mapping[str, str] | None = None) -> None:
    """Print the data, the table, and what the columns mean. ``verdicts`` by file path add the gate's column."""
    console.print(f"{escape(result.data)}: {result.images} images, {result.classes} classes", soft_wrap=True)
    console.print(_table(result, verdicts))
    for line in _footnotes(result):
        console.print(escape(line), soft_wrap=True)


def percent(fraction: float | None) -> str:
    """0.9187 as ``91.87``; a dash for what was not measured."""
    return "–" if fraction is None else f"{100 * fraction:.2f}"


def signed(points: float, decimals: int = 2) -> str:
    """With its sign, a true minus, and no sign for what rounds to zero."""
    text = f"{points:+.{decimals}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def drop_with_interval(comparison: Comparison) -> str:
    """As ``+0.44 [−0.28, +1.25]``."""
    low, high = comparison.interval_points
    return f"{signed(comparison.drop_points)} [{signed(low)}, {signed(high)}]"


def _table(result: EvaluationResult, verdicts: Mapping[str, str] | None) -> Table:
    has_drop = result.reference is not None
    has_top5 = result.classes > 5
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    if verdicts is not None:
        table.add_column("verdict")
    table.add_column("file", overflow="fold")
    table.add_column("target")
    table.add_column("precision")
    table.add_column("top-1 %", justify="right")
    if has_top5:
        table.add_column("top-5 %", justify="right")
    if has_drop:
        table.add_column(f"drop, points [{result.confidence:.0%}]", justify="right")
        table.add_column("agreement %", justify="right")
        table.add_column("McNemar p", justify="right")
    table.add_column("images/s", justify="right")

    if result.reference is not None:
        reference = result.reference
        accuracies = [percent(reference.top1), *([percent(reference.top5)] if has_top5 else [])]
        row = ["float network", "reference", "fp32", *accuracies, "", "", "", _speed(reference.images_per_second)]
        table.add_row(*([""] if verdicts is not None else []), *row, end_section=True)
    for file in result.files:
        row = [escape(file.path), file.target or "–", file.precision or "–", *_measured(file, has_top5, has_drop)]
        table.add_row(*([verdicts[file.path]] if verdicts is not None else []), *row)
    return table


def _measured(file: FileResult, has_top5: bool, has_drop: bool) -> list[str]:
    if file.status != "run":
        blank = ["–"] * (has_top5 + 3 * has_drop + 1)
        return [file.status if file.status == "not run" else "[red]failed[/]", *blank]
    cells = [percent(file.top1)]
    if has_top5:
        cells.append(percent(file.top5))
    if has_drop and file.comparison is not None:
        cells += [
            escape(drop_with_interval(file.comparison)),
            percent(file.comparison.agreement),
            f"{file.comparison.mcnemar_p:.2g}",
        ]
    return [*cells, _speed(file.images_per_second)]


def _speed(images_per_second: float | None) -> str:
    return "–" if images_per_second is None else f"{images_per_second:,.0f}"


def _footnotes(result: EvaluationResult) -> list[str]:
    lines = [f"{file.status.capitalize()}: {file.path}: {file.reason}" for file in result.files if file.reason]
    if result.skipped:
        more = ", …" if len(result.skipped) > 3 else ""
        lines.append(f"{len(result.skipped)} corrupt images left out: {', '.join(result.skipped[:3])}{more}.")
    lines += result.notes
    if result.reference is not None:
        lines.append(
            f"drop: top-1 lost against the float network, with its {result.confidence:.0%} Tango score interval; "
            "minus is a gain. McNemar p: chance of a split this uneven between equals."
        )
    else:
        lines.append("drop: no reference. Give --reference CHECKPOINT to see what was lost against the float network.")
    lines.append(f"images/s: of this evaluation on {result.threads} threads; a device's latency is something else.")
    return lines
