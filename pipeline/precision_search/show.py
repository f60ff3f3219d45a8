"""What ``export --search`` found, as people read it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from edge_apps.console import Line, Part, table
from edge_apps.runtime.search_record import SearchFound, SearchRecord
from pipeline.gating.show import show_gate
from pipeline.metrics.numbers import drop_with_interval, signed

if TYPE_CHECKING:
    from pipeline.precision_search.job import Outcome

KINDS = {"fp32": "fp32", "int8": "int8", "mixed": "int8, these in float"}


def show_search(noted: SearchRecord) -> Iterator[Part]:
    """Yield the layers, the drop with and without them in float, and what that costs."""
    found = noted.found
    yield Line("")
    yield _layers(found)
    yield Line(
        f"Simulated on {noted.rank.images} images of {noted.rank.data}: drop {signed(found.plain.drop_points)} points"
        + (f" in int8, {signed(found.chosen.drop_points)} with these in float" if found.float_layers else "")
        + f"; at such rates {noted.judge.images} images show at most {signed(found.chosen.expected_upper_points)}."
    )
    yield Line(f"Judged once, on {noted.judge.images} images of {noted.judge.data}; limit {noted.max_drop:g} points:")
    for file in noted.judged:
        drop = ""
        if file.drop_points is not None and file.interval_points is not None:
            drop = drop_with_interval(file.drop_points, file.interval_points)
        yield Line(f"  {file.path}: {file.verdict} {drop}".rstrip())
    shown = table()
    for column in ("target", "file"):
        shown.add_column(column)
    for column in ("MB", "ms"):
        shown.add_column(column, justify="right", no_wrap=True)
    for cost in noted.cost:
        for kind, size in cost.bytes.items():
            shown.add_row(cost.target, KINDS[kind], f"{size / 1e6:.2f}", f"{cost.median_ms[kind]:.3f}")
    yield shown
    yield Line("ms: median of single inferences on one core of this machine, the files taking turns.")


def show_rejected(outcome: Outcome, width: int) -> Iterator[Part]:
    """Yield what the gate said of files that were not written."""
    yield from show_gate(outcome.gate, width)
    yield _layers(outcome.found)
    yield Line(
        "No bundle was written. These pictures have judged: search again with a lower `max_drop` or more `rank_images` "
        "and judge on others."
    )


def _layers(found: SearchFound) -> Line:
    if not found.float_layers:
        return Line(f"None of the {len(found.ranking)} convolution and linear layers has to stay in float.")
    named = ", ".join(f"{layer} ({found.ranking[layer]:.1f} dB)" for layer in found.float_layers)
    return Line(f"In float: {len(found.float_layers)} of {len(found.ranking)} convolution and linear layers: {named}.")
