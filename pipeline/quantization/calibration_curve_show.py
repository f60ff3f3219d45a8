"""A calibration curve as a table and as a picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from edge_apps.console import Line, Part, table
from edge_apps.plots import BLUE, GREY, write_plot
from pipeline.metrics.numbers import percent
from pipeline.metrics.sqnr import ENOUGH_IMAGES
from pipeline.quantization.calibration_curve import NEAR_DB, CalibrationCurve
from pipeline.quantization.simulated_accuracy import Judged

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEAST_SPAN = 2.0
"""Of an axis: decibels, or points of top-1."""


def show_curve(curve: CalibrationCurve) -> Iterator[Part]:
    """Yield a row for every number of images: the median draw, the lowest and the highest; then what is enough."""
    recipe, draws = curve.recipe, len(curve.seeds())
    yield Line(
        f"{curve.model}, {recipe.observer}: {draws} {'draw' if draws == 1 else 'draws'} of each size from "
        f"{curve.pool} images of {curve.calibration_data}, judged on {curve.judged_images} others of {curve.data}"
    )
    shown = table()
    headers = (
        "calibration\nimages",
        "SQNR, dB\nmedian",
        "\nlowest … highest",
        "top-1, %\nmedian",
        "\nlowest … highest",
    )
    for header in headers:
        shown.add_column(header, justify="right", no_wrap=True)
    shown.add_row("float network", "", "", percent(curve.float_top1), "")
    for size in curve.sizes():
        decibels, top1 = curve.spread(size, _sqnr), curve.spread(size, _top1)
        shown.add_row(
            f"{size:,}",
            f"{decibels.median:.1f}",
            f"{decibels.low:.1f} … {decibels.high:.1f}",
            percent(top1.median),
            f"{percent(top1.low)} … {percent(top1.high)}",
        )
    yield shown
    yield from map(Line, remarks(curve))


def remarks(curve: CalibrationCurve) -> list[str]:
    """How many are enough, and what weakens that."""
    largest, enough = curve.sizes()[-1], curve.enough()
    lines = []
    if enough is not None:
        lines.append(
            f"{enough} images are enough here: from there on no draw is more than {NEAR_DB:g} dB below the median of "
            f"{largest:,}. Use it: `calibration_size={enough}`."
        )
    elif len(curve.sizes()) > 1:
        lines.append(
            f"No number is shown to be enough: right up to {largest:,} images there are draws more than "
            f"{NEAR_DB:g} dB below its median."
        )
    if 2 * largest > curve.pool:
        lines.append(f"Draws of {largest:,} from {curve.pool:,} share many pictures: fresh ones would differ more.")
    if curve.judged_images < ENOUGH_IMAGES:
        lines.append(f"Judged on only {curve.judged_images} images: the figures are indicative.")
    legend = "SQNR: of the logits, int8 against float; higher is better. The sets of one draw are nested."
    return [*curve.remarks, *lines, legend]


def plot_curve(curve: CalibrationCurve, path: Path) -> None:
    """Write it as SVG or PNG: SQNR above, top-1 below, over the number of images; a dot for every draw."""
    write_plot(path, lambda: _figure(curve))


def _figure(curve: CalibrationCurve) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator

    figure = Figure(figsize=(7, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    _panel(above, curve, _sqnr, "SQNR of the logits, dB")
    _panel(below, curve, lambda judged: 100 * _top1(judged), "top-1, %")
    below.axhline(100 * curve.float_top1, color=GREY, linestyle="--", linewidth=1, label="float network")
    below.set_xscale("log", base=2)
    below.set_xticks(curve.sizes(), [f"{size:,}" for size in curve.sizes()])
    below.xaxis.set_minor_locator(NullLocator())
    below.set_xlabel("calibration images")
    below.legend(frameon=False)
    for axes in (above, below):
        _widen(axes)
    draws = len(curve.seeds())
    figure.suptitle(
        f"{curve.model}, {curve.recipe.observer}: {draws} {'draw' if draws == 1 else 'draws'} of each size, "
        f"judged on {curve.judged_images} images of {PurePath(curve.data).name}",
        x=0.02,
        ha="left",
        fontsize=10,
    )
    return figure


def _panel(axes: Any, curve: CalibrationCurve, figure: Callable[[Judged], float], label: str) -> None:
    sizes = curve.sizes()
    axes.plot(
        [point.images for point in curve.points],
        [figure(point.judged) for point in curve.points],
        linestyle="none",
        marker="o",
        markersize=4,
        color=BLUE,
        alpha=0.5,
        label="a draw",
    )
    medians = [curve.spread(size, figure).median for size in sizes]
    axes.plot(sizes, medians, color=BLUE, linewidth=1.5, label="median")
    axes.set_ylabel(label)
    axes.grid(axis="y", linewidth=0.4, alpha=0.5)
    axes.spines[["top", "right"]].set_visible(False)


def _widen(axes: Any) -> None:
    """Show at least ``LEAST_SPAN``, so that nothing looks like much."""
    low, high = axes.get_ylim()
    missing = LEAST_SPAN - (high - low)
    if missing > 0:
        axes.set_ylim(low - missing / 2, high + missing / 2)


def _sqnr(judged: Judged) -> float:
    return judged.sqnr_db


def _top1(judged: Judged) -> float:
    return judged.top1
