"""The picture of a comparison: per device and model the range from p50 to p99, on one axis."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edge_apps import plots
from edge_apps.camera.log.compare import SHOWN, Compared
from edge_apps.camera.log.database import check_output
from edge_apps.runtime.latency import ENOUGH_FOR_P99

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"age": plots.BLUE, "infer": plots.VERMILION}

MARKS = {"p50": "o", "p90": "|", "p99": "D"}

TOO_WIDE = 20
"""Times that the largest figure exceeds the smallest before the axis is logarithmic."""

LONGEST_NAME = 44
"""Characters of a line of a label; the table says the rest."""


def check_plot(path: Path) -> None:
    """Refuse, before work starts, a plot that could not be drawn or written; ``BadInput``, ``MissingExtra``."""
    plots.check_plot(path, "report")
    check_output(path)


def write_plot(path: Path, compared: Sequence[Compared]) -> None:
    """Draw the comparison as SVG or PNG, by the suffix; the same figures give the same bytes."""
    plots.write_plot(path, lambda: _figure(compared))


def _figure(compared: Sequence[Compared]) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.5, 1.5 + 0.75 * len(compared)), layout="constrained")
    axes = figure.add_subplot()
    for place, line in enumerate(compared):
        _draw(axes, place, line)
    axes.set_yticks(range(len(compared)), [_label(*numbered) for numbered in enumerate(compared, 1)])
    axes.set_ylim(len(compared) - 0.45, -0.55)  # the fastest on top
    for place in range(1, len(compared)):
        axes.axhline(place - 0.5, color="#dddddd", linewidth=0.8, zorder=0)
    _set_scale(axes, compared)
    axes.grid(axis="x", color="#eeeeee", zorder=0)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_title("Latency: what 50, 90 and 99 % of frames take at most", loc="left")
    figure.legend(*_legend(), loc="outside lower center", ncols=5, frameon=False)
    return figure


def _draw(axes: Axes, place: int, line: Compared) -> None:
    for number, stage in enumerate(SHOWN):
        summary = line.group.stages.get(stage)
        if summary is None:
            continue  # version 1 did not measure the age
        height = place - 0.2 + 0.4 * number
        colour = COLOURS[stage]
        axes.plot([summary.p50, summary.p99], [height, height], color=colour, linewidth=3, alpha=0.45, zorder=2)
        for name, mark in MARKS.items():
            is_open = name == "p99" and summary.p99_is_indicative
            axes.plot(
                getattr(summary, name),
                height,
                mark,
                color=colour,
                markersize=10 if mark == "|" else 6,
                markeredgewidth=2 if mark == "|" else 1.2,
                markerfacecolor="white" if is_open else colour,
                zorder=3,
            )
        for value, shift, align in ((summary.p50, (0, 6), "center"), (summary.p99, (7, -3), "left")):
            axes.annotate(_figure_of(value), (value, height), shift, textcoords="offset points", ha=align, fontsize=7.5)


def _figure_of(value: float) -> str:
    """Three digits."""
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}"


def _set_scale(axes: Axes, compared: Sequence[Compared]) -> None:
    shown = [summary for line in compared for stage in SHOWN if (summary := line.group.stages.get(stage))]
    figures = [getattr(summary, name) for summary in shown for name in MARKS]
    low, high = min(figures), max(figures)
    if low > 0 and high / low > TOO_WIDE:
        axes.set_xscale("log")
        axes.set_xlim(low / 1.5, high * 1.7)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_xlabel("milliseconds (logarithmic)")
    else:
        axes.set_xlim(0, high * 1.1 or 1.0)
        axes.set_xlabel("milliseconds")


def _label(number: int, line: Compared) -> str:
    device, file, *others = line.names
    n = f"n = {line.group.stages['total'].n:,}"
    return "\n".join(
        [_shortened(f"{number} · {device}"), _shortened(file), " · ".join([*map(_shortened, filter(None, others)), n])]
    )


def _shortened(name: str) -> str:
    """Its middle makes room: the end of a file's name says the precision."""
    half = (LONGEST_NAME - 1) // 2
    return name if len(name) <= LONGEST_NAME else f"{name[:half]}…{name[-half:]}"


def _legend() -> tuple[list[Artist], list[str]]:
    from matplotlib.lines import Line2D

    handles: list[Artist] = [Line2D([], [], color=COLOURS[stage], linewidth=3) for stage in SHOWN]
    handles += [
        Line2D([], [], color="#555555", linestyle="", marker=mark, markersize=10 if mark == "|" else 6,
               markeredgewidth=2 if mark == "|" else 1.2)
        for mark in MARKS.values()
    ]  # fmt: skip
    names = {"age": "end-to-end latency", "infer": "inference"}
    return handles, [
        *(names[stage] for stage in SHOWN),
        "p50",
        "p90",
        f"p99 (hollow: of fewer than {ENOUGH_FOR_P99:,} frames)",
    ]
