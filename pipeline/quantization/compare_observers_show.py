"""All observers on the same calibration images, as a table."""

from __future__ import annotations

from collections.abc import Iterator

from rich.markup import escape

from edge_apps.console import Line, Part, table
from pipeline.metrics.numbers import drop_with_interval, percent
from pipeline.metrics.sqnr import ENOUGH_IMAGES
from pipeline.quantization.compare_observers import ObserversCompared


def show_observers(result: ObserversCompared) -> Iterator[Part]:
    """Yield a row for the float network and for every observer, and how to use the best."""
    yield Line(
        f"{result.model}: calibrated on {result.recipe.images} images of {result.calibration_data}, "
        f"judged on {result.images} others of {result.data}"
    )
    shown = table()
    shown.add_column("\nobserver")
    for header in ("SQNR\ndB", "top-1\n%", "drop, points\n[95 % interval]", "agree-\nment %"):
        shown.add_column(escape(header), justify="right", no_wrap=True)
    shown.add_column("")
    shown.add_row("float network", "", percent(result.float_top1), "reference", "")
    for row in result.observers:
        judged = row.judged
        shown.add_row(
            row.observer,
            f"{judged.sqnr_db:.1f}",
            percent(judged.top1),
            escape(drop_with_interval(judged.drop_points, judged.interval_points)),
            percent(judged.agreement),
            "best" if row.observer == result.best else "",
            style="bold" if row.observer == result.best else None,
        )
    yield shown
    yield from map(Line, _legend(result))


def _legend(result: ObserversCompared) -> list[str]:
    lines = list(result.remarks)
    if result.images < ENOUGH_IMAGES:
        lines.append(f"Judged on only {result.images} images: the figures are indicative.")
    if result.recipe.observers:
        lines.append(f"The recipe's own observers stayed for: {', '.join(result.recipe.observers)}.")
    lines += [
        "SQNR: of the logits, int8 against float; higher is better. drop: top-1 lost on the same images; minus is a "
        "gain.",
        "best: the highest SQNR, which tells observers apart on fewer images than top-1 does.",
    ]
    best = next(row.judged for row in result.observers if row.observer == result.best)
    higher = [row.observer for row in result.observers if row.judged.top1 > best.top1]
    if higher:
        lines.append(
            f"Higher top-1 on these images: {', '.join(higher)}. More of them (`images`) say whether that lasts."
        )
    lines.append(
        f"Use the best: `observer={result.best}`, with 'pipeline calibrate' or 'pipeline export'; or "
        f'observer = "{result.best}" in a recipe.'
    )
    return lines
