"""The tables that people read."""

import io
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from rich.console import Console

from pipeline.accuracy.gate import GatePolicy, judge
from pipeline.accuracy.in_bundle import evaluate_bundle
from pipeline.accuracy.results import EvaluationResult
from pipeline.accuracy.show import percent, show_evaluation, show_gate, signed


@pytest.mark.parametrize(
    ("points", "text"), [(0.444, "+0.44"), (-0.278, "−0.28"), (0.0, "0.00"), (-0.001, "0.00"), (100.0, "+100.00")]
)
def test_signs(points: float, text: str) -> None:
    assert signed(points) == text


def test_percent() -> None:
    assert (percent(0.91873), percent(1.0), percent(None)) == ("91.87", "100.00", "–")


def shown(show: Callable[..., None], result: Any, width: int = 160) -> str:
    console = Console(width=width, file=io.StringIO())
    show(result, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.fixture
def evaluated(laboratory: Any, make_bundle: Any) -> EvaluationResult:
    root = make_bundle(
        {"[bold]a.fake": laboratory.answers(2, 1), "b.fake": laboratory.answers(), "c.fake": laboratory.answers()},
        **{"b.fake": {"open": "not here"}, "c.fake": {"run": "broke"}},
    )
    return evaluate_bundle(root, laboratory.images, threads=1)


def test_numbers_and_reasons_are_there(evaluated: EvaluationResult) -> None:
    text = shown(show_evaluation, evaluated)
    assert "120 images, 6 classes" in text
    row = next(line for line in text.splitlines() if "[bold]a.fake" in line)
    assert "+0.83 [−3.09, +5.15]" in row
    assert "97.50" in row  # agreement: 3 of 120 differ
    assert "float network" in text
    assert "\n'b.fake' is not run: fakes exist on the moon only.\n" in text
    assert "\nc.fake: failed: RuntimeError: broke\n" in text


def test_the_gate_shows_each_verdict_and_the_whole(evaluated: EvaluationResult) -> None:
    text = shown(show_gate, judge(evaluated, GatePolicy(max_drop=50, confidence=0.5)))
    rows = [line.split() for line in text.splitlines()]
    assert ["passed", "[bold]a.fake", "tflite", "int8"] in [row[:4] for row in rows]
    assert ["not", "run", "b.fake"] in [row[:3] for row in rows]
    assert ["failed", "c.fake"] in [row[:2] for row in rows]
    assert "[50 % interval]" in text
    assert text.splitlines()[-1] == "Gate failed at 50.0 points of top-1: 1 passed, 1 failed, 1 not run."
    assert "Top-1 fell 0.8 points" in shown(show_gate, judge(evaluated, GatePolicy(max_drop=1)))


NAME = "mobilenet_v2-int8-weights.mlpackage"


@pytest.mark.parametrize("width", [80, 119, 120, 160])
def test_nothing_is_cut_from_a_narrow_terminal(evaluated: EvaluationResult, width: int) -> None:
    file = msgspec.structs.replace(evaluated.files[0], path=NAME)
    result = msgspec.structs.replace(evaluated, files=(file,))
    for text in (
        shown(show_evaluation, result, width),
        shown(show_gate, judge(result, GatePolicy(max_drop=1, allow_not_run=("coreml",))), width),
    ):
        table = text[: text.index("+5.15]")]
        assert "…" not in table
        assert max(len(line) for line in table.splitlines()) <= width
        assert NAME[:20] in table


def test_without_a_reference_no_drop_is_invented(evaluated: EvaluationResult) -> None:
    file = msgspec.structs.replace(evaluated.files[0], comparison=None)
    text = shown(show_evaluation, msgspec.structs.replace(evaluated, reference=None, files=(file,)))
    assert "--reference" in text
    assert "McNemar" not in text
    assert "float network" not in text


def test_top5_of_five_classes_is_not_shown(evaluated: EvaluationResult) -> None:
    assert "top-5" in shown(show_evaluation, evaluated)
    assert "top-5" not in shown(show_evaluation, msgspec.structs.replace(evaluated, classes=5))


def test_skipped_pictures_are_named(evaluated: EvaluationResult) -> None:
    text = shown(show_evaluation, msgspec.structs.replace(evaluated, skipped=("a", "b", "c", "d")))
    assert "4 corrupt images left out: a, b, c, …." in text
