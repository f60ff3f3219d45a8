"""Tables of what models cost, for people at a terminal of 80 columns or more."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING

from edge_apps.console import Line, Part, table
from edge_apps.settings import as_options
from pipeline.zoo.complexity.check import MULT_ADDS, Row
from pipeline.zoo.complexity.claims import PEAK_RULE, Compared, Peak
from pipeline.zoo.spec import ModelSpec, Value, shown

if TYPE_CHECKING:
    from rich.table import Table

    from pipeline.zoo.complexity.compound_scaling import Scaling
    from pipeline.zoo.complexity.count import Cost, Layer, Shape, Unit


SOURCE = "source: explanation"
CAPITAL = re.compile(r"(?<=[a-z])(?=[A-Z])")
"""Where a class's name is two words."""


def show_list(costs: Mapping[str, tuple[int, int, Cost]]) -> Iterator[Part]:
    """One line a model: name to input side, classes and cost."""
    listed = _table("\nmodel", "\ninput", "\nclasses", "\nparams", "mult-adds\nM", "fp32\nMB", "peak act.\nKB")
    for name, (side, classes, cost) in costs.items():
        listed.add_row(
            name,
            str(side),
            f"{classes:,}",
            f"{cost.params:,}",
            _millions(cost.mult_adds),
            f"{cost.size_mb:,.2f}",
            f"{cost.peak_activation / 1e3:,.0f}",
        )
    yield listed


def show_model(spec: ModelSpec, options: Mapping[str, Value], side: int, classes: int, cost: Cost) -> Iterator[Part]:
    """What it is, its options, and what it costs in total."""
    yield Line(f"{spec.title}  ({', '.join((spec.name, *spec.aliases))})", style="bold", wraps=True)
    yield Line(spec.paper, wraps=True)
    yield Line(spec.introduced, wraps=True)
    if spec.options:
        yield _heading("Options")
        listed = _table("option", "value", "default", "allowed", "meaning", left=("allowed", "meaning"))
        for name, option in spec.options.items():
            typed = as_options(f"`{name}`")
            listed.add_row(typed, shown(options[name]), shown(option.default), option.allowed(), option.meaning)
        yield listed
    yield _heading(f"Cost of one {side}×{side} picture, {classes:,} classes")
    totals = table()
    for name, value in (
        ("parameters", f"{cost.params:,}  ({cost.size_mb:,.3f} MB in float32)"),
        ("mult-adds", f"{_millions(cost.mult_adds)} M"),
        ("peak activation", f"{cost.peak_activation / 1e3:,.0f} KB at 16 bit"),
    ):
        totals.add_row(name, value)
    totals.show_header = False
    yield totals


def show_kinds(cost: Cost) -> Iterator[Part]:
    """Where weights and mult-adds are."""
    yield _heading("By kind of layer")
    listed = _table("\nkind", "\nlayers", "\nweights", "\n%", "mult-adds\nM", "\n% ")
    for kind, (weights, mult_adds) in cost.by_kind().items():
        layers = sum(layer.kind == kind for layer in cost.layers)
        listed.add_row(kind, str(layers), f"{weights:,}", _share(weights, cost.weights), *_work(mult_adds, cost))
    yield listed


def show_layers(cost: Cost, every_layer: bool) -> Iterator[Part]:
    """The network from its input to its output: by unit, equal ones in a row together, or every layer."""
    if every_layer:
        yield _heading("Layers")
        rest = cost.params - sum(layer.params for layer in cost.layers)
        lines = [_line(layer) for layer in cost.layers]
        lines += [_Line("batch norms", "", (), rest, 0)] if rest else []
    else:
        yield _heading("Units (`layers` shows every layer)")
        lines = [_together(list(run)) for _, run in groupby(cost.units, key=lambda unit: replace(unit, path=""))]
    listed = _table("\npath", "\nkind", "\noutput", "\nparams", "\n%", "mult-adds\nM", "\n% ", left=("\nkind",))
    for line in lines:
        listed.add_row(
            line.path,
            CAPITAL.sub(" ", line.kind),
            "×".join(map(str, line.output)),
            f"{line.params:,}" if line.params else "",
            _share(line.params, cost.params) if line.params else "",
            *(_work(line.mult_adds, cost) if line.mult_adds else ("", "")),
        )
    yield listed


def show_figures(rows: Sequence[Row], heading: str = "Counted and published") -> Iterator[Part]:
    """Counted | published | where that stands, and why it differs."""
    if not rows:
        return
    yield _heading(heading)
    listed = _table("", " ", "counted", "published", SOURCE, left=(" ", SOURCE))
    for before, row in zip([None, *rows], rows, strict=False):
        listed.add_row(
            _subject(row, before),
            row.quantity,
            row.counted,
            row.published or "–",
            f"FAILS: {row.fault}" if row.fault else _reason(row, before),
            style="bold red" if row.fault else None,
        )
    yield listed


def show_peaks(peaks: Iterable[Peak]) -> Iterator[Part]:
    """Both rules of the MobileNetV2 paper, in KB."""
    yield _heading("Peak activation, KB (MobileNetV2, table 3)")
    listed = _table("", "first version\ncounted", "\npublished", "later version\ncounted", "\npublished ")
    for peak in peaks:
        name = f"{peak.model}, {peak.setting}" if peak.setting else peak.model
        first, later = (f"{value / 1e3:,.0f}" for value in (peak.first, peak.later))
        listed.add_row(name, first, peak.published_first, later, peak.published_later)
    yield listed
    yield Line(PEAK_RULE, wraps=True)


def show_scaling(
    spec: ModelSpec, base: Cost, points: Sequence[tuple[Scaling, Cost]], published: Scaling
) -> Iterator[Part]:
    """Depth α, width β and resolution γ that cost about twice the base; the paper trained each and kept one."""
    yield _heading(f"{spec.title} scaled by one step: depth α, width β, resolution γ with α·β²·γ² ≈ 2")
    listed = _table("", "α", "β", "γ", "α·β²·γ²", "params", "mult-adds M", "of the base")
    listed.add_row("base", "", "", "", "", f"{base.params:,}", _millions(base.mult_adds), "")
    for point, cost in points:
        listed.add_row(
            "published" if point == published else "",
            *(f"{value:g}" for value in (point.depth, point.width, point.resolution)),
            f"{point.growth:.3f}",
            f"{cost.params:,}",
            _millions(cost.mult_adds),
            f"{cost.mult_adds / base.mult_adds:.2f}×",
        )
    yield listed
    yield Line(
        f"The paper trained such points and kept α {published.depth:g}, β {published.width:g}, "
        f"γ {published.resolution:g}.",
        wraps=True,
    )
    yield Line("Layers come in whole numbers and channels in eights, so counts do not double exactly.", wraps=True)


def show_comparison(lines: Iterable[Compared]) -> Iterator[Part]:
    """The published accuracies: nothing here measured them."""
    yield _heading("MobileNet, table 8, as published; this project ships no weights that reach these accuracies")
    columns = ("top-1\npublished", "mult-adds\npublished", "\ncounted", "params\npublished", "\ncounted ")
    listed = _table("", *columns)
    for line in lines:
        listed.add_row(
            line.label, line.top1, line.published_mult_adds, line.mult_adds, line.published_params, line.params
        )
    yield listed


@dataclass(frozen=True)
class _Line:
    path: str
    kind: str
    output: Shape
    params: int
    mult_adds: int


def _line(part: Layer | Unit, times: int = 1) -> _Line:
    return _Line(part.path, part.kind, part.output, part.params * times, part.mult_adds * times)


def _together(units: list[Unit]) -> _Line:
    """Equal units in a row as one line: ``features.8…10``, with what they cost together."""
    line = _line(units[0], len(units))
    return line if len(units) == 1 else replace(line, path=f"{line.path}…{units[-1].path.rpartition('.')[2]}")


def _subject(row: Row, before: Row | None) -> str:
    """The model where it is another than in the row before, its setting where that is another."""
    if before is None or before.subject != row.subject:
        return f"{row.subject}, {row.setting}" if row.setting else row.subject
    if (before.setting, before.source) == (row.setting, row.source) or before.quantity != row.quantity == MULT_ADDS:
        return ""
    return f"  {row.setting or 'default'}"


def _reason(row: Row, before: Row | None) -> str:
    if row.explanation and before is not None and row.explanation == before.explanation:
        return "as above"
    return ": ".join(text for text in (row.source, row.explanation) if text)


def _table(first: str, *columns: str, left: Sequence[str] = ()) -> Table:
    """Numbers on the right, unbroken; the first column and those named as ``left`` are words."""
    listed = table()
    listed.add_column(first, overflow="fold")
    for column in columns:
        words = column in left
        listed.add_column(column, justify="left" if words else "right", no_wrap=not words, overflow="fold")
    return listed


def _heading(text: str) -> Line:
    return Line(f"\n{text}", style="bold", wraps=True)


def _work(mult_adds: int, cost: Cost) -> tuple[str, str]:
    return f"{mult_adds / 1e6:,.2f}", _share(mult_adds, cost.mult_adds)


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}"


def _millions(value: int) -> str:
    return f"{value / 1e6:,.1f}"
