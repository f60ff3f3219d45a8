"""Every figure of the zoo's specs: counted, published, and why they differ."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from typing import Any

from pipeline.zoo.complexity.printed import parse
from pipeline.zoo.spec import Figure, ModelSpec, Value

PARAMS, MULT_ADDS = "params", "mult-adds"


@dataclass(frozen=True)
class Row:
    """One counted number beside the published one; ``fault`` says what is wrong, and is empty where nothing is.

    ``counted`` and ``published`` are texts to show; ``value`` is the count in full.
    """

    subject: str
    setting: str
    quantity: str
    value: float
    counted: str
    published: str
    source: str
    explanation: str
    fault: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def check(specs: Iterable[ModelSpec]) -> Iterator[Row]:
    """Count every figure of these models and hold it against what was recorded and published."""
    for spec in specs:
        for figure in spec.figures:
            yield from check_figure(spec, figure)


def check_figure(spec: ModelSpec, figure: Figure) -> tuple[Row, ...]:
    """Up to two rows, for parameters and mult-adds; what has neither an exact nor a published value has no row."""
    from pipeline.zoo.complexity.count import count_model

    cost = count_model(spec, figure.options, figure.input_size, figure.classes)
    counted_millions = millions(cost.mult_adds, figure.mult_adds)
    exact_params = "" if figure.params is None else f"{figure.params:,}"
    counted = (
        (PARAMS, cost.params, f"{cost.params:,}", exact_params, figure.published_params),
        (MULT_ADDS, cost.mult_adds, f"{counted_millions} M", _unit(figure.mult_adds), figure.published_mult_adds),
    )
    rows = [_row(spec, figure, *line) for line in counted if line[3] or line[4]]
    # It explains the counts that differ from print; where none does, it says what the figure is.
    explained = [row for row in rows if differs(row.value, row.published)] or rows[:1]
    return tuple(replace(row, explanation=figure.explanation) if row in explained else row for row in rows)


def _row(spec: ModelSpec, figure: Figure, quantity: str, value: int, counted: str, exact: str, published: str) -> Row:
    return Row(
        subject=spec.name,
        setting=_setting(spec, figure),
        quantity=quantity,
        value=value,
        counted=counted,
        published=published,
        source=figure.source if published else "",
        explanation="",
        fault=fault(value, counted, exact, published, figure.explanation),
    )


def _unit(mult_adds: str) -> str:
    return f"{mult_adds} M" if mult_adds else ""


def fault(value: float, shown: str, exact: str, published: str, explanation: str) -> str:
    """What is wrong with a count: it is not the recorded one, or it is not the published one and no one says why."""
    if exact and shown != exact:
        return f"counts {shown}, recorded {exact}"
    if differs(value, published) and not explanation:
        return f"counts {shown}, published {published}, no explanation recorded"
    return ""


def differs(value: float, published: str) -> bool:
    """Whether a count lies outside what the published figure's rounding leaves open."""
    return bool(published) and not parse(published).covers(value)


def millions(value: int, like: str = "") -> str:
    """A count in millions, with as many decimals as ``like`` has; one where that is empty."""
    decimals = len(like.partition(".")[2]) if like else 1
    step = Decimal(1).scaleb(-decimals)
    return f"{(Decimal(value) / 1_000_000).quantize(step):,}"


def _setting(spec: ModelSpec, figure: Figure) -> str:
    """What is not the model's own."""
    options = {name: value for name, value in figure.options.items() if value != spec.options[name].default}
    return words(
        options,
        None if figure.input_size == spec.input_size else figure.input_size,
        None if figure.classes == spec.classes else figure.classes,
    )


def words(options: Mapping[str, Value], input_size: int | None = None, classes: int | None = None) -> str:
    """Options, input and classes as one types them, without the dashes."""
    parts = [f"{name.replace('_', '-')} {_plain(value)}" for name, value in options.items()]
    if input_size is not None:
        parts.append(f"input {input_size}")
    if classes is not None:
        parts.append(f"classes {classes}")
    return ", ".join(parts)


def _plain(value: Value) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
