"""Every figure of every spec holds; and a figure that does not hold is caught."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline import zoo
from pipeline.zoo.complexity.check import Row, check, check_figure, millions, words
from pipeline.zoo.complexity.printed import parse
from pipeline.zoo.spec import Figure, ModelSpec

SPEC = zoo.get("mobilenet_v2")
FIGURE = Figure(
    params=3_504_872,
    mult_adds="300.8",
    published_params="3.4 M",
    published_mult_adds="300 M",
    source="table 4",
    explanation="Because.",
)
EVERY_FIGURE = [(spec, figure) for spec in zoo.specs().values() for figure in spec.figures]


@pytest.mark.parametrize(
    ("spec", "figure"),
    EVERY_FIGURE,
    ids=[f"{spec.name}-{words(figure.options, figure.input_size, figure.classes)}" for spec, figure in EVERY_FIGURE],
)
def test_every_figure_holds(spec: ModelSpec, figure: Figure) -> None:
    rows = check_figure(spec, figure)
    assert rows, "a figure that says nothing"
    assert [row.fault for row in rows] == [""] * len(rows)


def test_every_model_has_figures() -> None:
    assert [spec.name for spec in zoo.specs().values() if not spec.figures] == []


def test_what_was_published_says_where() -> None:
    for spec, figure in EVERY_FIGURE:
        for text in filter(None, (figure.published_params, figure.published_mult_adds)):
            assert parse(text).low > 0
            assert figure.source, f"{spec.name}: {text} without a source"


def one(figure: Figure, quantity: str) -> Row:
    return next(row for row in check_figure(SPEC, figure) if row.quantity == quantity)


def test_a_row() -> None:
    row = one(FIGURE, "params")
    assert (row.subject, row.setting, row.value, row.counted) == ("mobilenet_v2", "", 3_504_872, "3,504,872")
    assert (row.published, row.source, row.explanation, row.fault) == ("3.4 M", "table 4", "Because.", "")
    assert one(FIGURE, "mult-adds").counted == "300.8 M"


@pytest.mark.parametrize(
    ("changed", "quantity", "fault"),
    [
        ({"params": 3_504_873}, "params", "counts 3,504,872, recorded 3,504,873"),
        ({"mult_adds": "300.7"}, "mult-adds", "counts 300.8 M, recorded 300.7 M"),
        ({"mult_adds": "301"}, "mult-adds", ""),
        ({"mult_adds": "300.77"}, "mult-adds", ""),
        ({"explanation": ""}, "params", "counts 3,504,872, published 3.4 M, no explanation recorded"),
        ({"explanation": ""}, "mult-adds", "counts 300.8 M, published 300 M, no explanation recorded"),
        ({"explanation": "", "published_params": "3.5 M"}, "params", ""),
        ({"explanation": "", "published_mult_adds": "301 M"}, "mult-adds", ""),
        ({"input_size": 192}, "mult-adds", "counts 221.3 M, recorded 300.8 M"),
        ({"options": {"width": 0.5}}, "params", "counts 1,968,680, recorded 3,504,872"),
    ],
)
def test_what_does_not_hold_is_caught(changed: dict[str, object], quantity: str, fault: str) -> None:
    assert one(replace(FIGURE, **changed), quantity).fault == fault  # type: ignore[arg-type]


def test_what_was_not_published_and_what_is_not_held_have_no_row() -> None:
    rows = check_figure(SPEC, Figure(params=2_236_682, classes=10))
    assert [(row.quantity, row.setting, row.published, row.source) for row in rows] == [
        ("params", "classes 10", "", "")
    ]
    published_only = check_figure(SPEC, Figure(published_mult_adds="301 M", source="nowhere"))
    assert [(row.quantity, row.fault) for row in published_only] == [("mult-adds", "")]
    assert check_figure(SPEC, Figure()) == ()


def test_an_explanation_is_of_what_differs() -> None:
    only_params = replace(FIGURE, published_mult_adds="301 M")
    assert [row.explanation for row in check_figure(SPEC, only_params)] == ["Because.", ""]
    nothing = Figure(params=3_504_872, mult_adds="300.8", explanation="What it is.")
    assert [row.explanation for row in check_figure(SPEC, nothing)] == ["What it is.", ""]


def test_settings_are_what_is_not_the_models_own() -> None:
    figure = Figure(params=1, options={"width": 1.0}, input_size=224, classes=1000)
    assert [row.setting for row in check_figure(SPEC, figure)] == [""]
    figure = Figure(params=1, options={"width": 0.35}, input_size=96, classes=10)
    assert [row.setting for row in check_figure(SPEC, figure)] == ["width 0.35, input 96, classes 10"]
    assert words({"batch_norm": True, "bypass": "simple"}) == "batch-norm yes, bypass simple"


def test_a_zoo_without_figures_has_no_rows() -> None:
    assert list(check([replace(SPEC, figures=())])) == []


@pytest.mark.parametrize(
    ("value", "like", "text"),
    [(300_774_272, "", "300.8"), (300_774_272, "1", "301"), (7_609_090_048, "0.0", "7,609.1"), (0, "0.00", "0.00")],
)
def test_millions(value: int, like: str, text: str) -> None:
    assert millions(value, like) == text
