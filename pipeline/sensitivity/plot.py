"""A measurement of sensitivity as a picture: layers from left to right, decibels upwards."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_apps.plots import BLUE, GREY, VERMILION, write_plot

if TYPE_CHECKING:
    from pipeline.sensitivity.measure import OperatorResult, Sensitivity

NAMED = 5
"""So many of the most damaging are named."""

HIGHEST_DB = 90.0
"""What is better than this lies on the upper edge."""


def draw(result: Sensitivity, path: Path) -> None:
    """Write the plot as SVG or PNG, by the suffix."""
    write_plot(path, lambda: _figure(result))


def _figure(result: Sensitivity) -> Any:
    from matplotlib.figure import Figure

    count = len(result.operators)
    figure = Figure(figsize=(min(max(8.0, 2 + 0.11 * count), 18), 5.4), layout="constrained")
    axes = figure.add_subplot()
    _points(axes, result)
    in_file = [math.nan if o.file_sqnr_db is None else o.file_sqnr_db for o in result.operators]
    if result.file.reason is None:
        label = f"its tensor in {result.file.path}, all before it int8 too"
        places = range(1, count + 1)
        axes.plot(places, in_file, color=VERMILION, marker="x", markersize=4, linewidth=1.2, label=label)
    whole = f"logits of the whole int8 network: {result.int8_sqnr_db:.1f}"
    axes.axhline(result.int8_sqnr_db, color=GREY, linestyle="--", linewidth=1, label=whole)
    axes.set_xlim(0, count + 1)
    _name_the_worst(axes, result)
    axes.set_xlabel("operators in the order of the network")
    axes.set_ylabel("signal to quantization noise, dB (lower: more damage)")
    axes.set_title(f"{result.bundle}: {result.model} on {result.images} images of {Path(result.data).name}", loc="left")
    axes.grid(axis="y", linewidth=0.4, alpha=0.5)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower left", ncols=2, frameon=False)
    return figure


def _points(axes: Any, result: Sensitivity) -> None:
    """Layers as filled circles, what lies between them as hollow squares."""
    kinds = (
        (True, {"marker": "o", "color": BLUE}, "logits when only this layer is int8"),
        (
            False,
            {"marker": "s", "facecolors": "none", "edgecolors": BLUE},
            "the same, for what has no weights (add, …)",
        ),
    )
    for weighted, style, label in kinds:
        places = [(x, _shown(o)) for x, o in enumerate(result.operators, 1) if o.weighted == weighted]
        if places:
            axes.scatter(*zip(*places, strict=True), s=20, label=label, zorder=3, **style)


def _name_the_worst(axes: Any, result: Sensitivity) -> None:
    """Below all points, each name on a row of its own with a line up to its point.

    Names on the left run to the right of their lines and lie the lower the further left; on the right it is mirrored.
    So no line runs through a name of its side.
    """
    worst = result.by_damage()[:NAMED]
    places = sorted((result.operators.index(operator) + 1, operator) for operator in worst)
    middle = (len(result.operators) + 1) / 2
    left = [place for place in places if place[0] <= middle]
    right = [place for place in places if place[0] > middle]
    low, high = axes.get_ylim()
    row = (high - low) * 0.075
    axes.set_ylim(low - row * (len(places) + 0.5), high)
    for number, (x, operator) in enumerate([*left, *right[::-1]]):
        side, edge = ("left", 0.0) if x <= middle else ("right", 1.0)
        axes.annotate(
            f"{operator.path} ({operator.operator}) {operator.sqnr_db:.1f}",
            (x, _shown(operator)),
            (x, low - row * (len(places) - number)),
            ha=side,
            va="center",
            zorder=4,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
            arrowprops={
                "arrowstyle": "-",
                "color": GREY,
                "linewidth": 0.7,
                "shrinkB": 2,
                "relpos": (edge, 0.5),
            },
        )


def _shown(operator: OperatorResult) -> float:
    return min(operator.sqnr_db, HIGHEST_DB)
