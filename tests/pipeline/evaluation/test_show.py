"""The tables that people read."""

import io
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np
import pytest
from rich.console import Console

from edge_apps.console import Part, print_parts
from pipeline.evaluation.bundle import evaluate_bundle
from pipeline.evaluation.results import Drift, EvaluationResult
from pipeline.evaluation.show import show_evaluation
from pipeline.gating.judge import GatePolicy, judge
from pipeline.gating.show import show_gate
from pipeline.metrics.numbers import signed


@pytest.mark.parametrize(
    ("points", "text"), [(0.444, "+0.44"), (-0.278, "−0.28"), (0.0, "0.00"), (-0.001, "0.00"), (100.0, "+100.00")]
)
def test_signs(points: float, text: str) -> None:
    assert signed(points) == text


def shown(show: Callable[..., Iterator[Part]], result: Any, width: int = 160) -> str:
    console = Console(width=width, file=io.StringIO())
    print_parts(show(result, width), console)
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
    text = shown(show_gate, judge(evaluated, GatePolicy(max_drop=30, confidence=0.5)))
    rows = [line.split() for line in text.splitlines()]
    assert ["passed", "[bold]a.fake", "tflite", "fp32"] in [row[:4] for row in rows]
    assert ["not", "run", "b.fake"] in [row[:3] for row in rows]
    assert ["failed", "c.fake"] in [row[:2] for row in rows]
    assert "[50 % interval]" in text
    assert text.splitlines()[-1] == "Gate failed at 30.0 points of top-1: 1 passed, 1 failed, 1 not run."
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


def test_copies_left_out_are_named(evaluated: EvaluationResult) -> None:
    text = shown(show_evaluation, msgspec.structs.replace(evaluated, repeated=("a", "b")))
    assert "2 copies of other images left out: a, b." in text


@pytest.fixture
def damaged(laboratory: Any, make_bundle: Any) -> EvaluationResult:
    """A file with the longest name that lost a class, unlike its graph and its manifest."""
    answers = laboratory.answers()
    answers[:20] = np.roll(answers[:20], 1, axis=1)
    result = evaluate_bundle(make_bundle({"a.fake": answers}), laboratory.images, threads=1)
    drift = Drift(images=100, sqnr_db=12.3, agreement=0.8, simulated_top1=0.8, drop_points=13.5)
    file = msgspec.structs.replace(result.files[0], path=NAME, drift=drift, unlike_manifest="It is not.")
    return msgspec.structs.replace(result, files=(file,))


@pytest.mark.parametrize("width", [80, 140])
def test_flagged_classes_and_drift_fit(damaged: EvaluationResult, width: int) -> None:
    result = judge(damaged, GatePolicy(max_drop=30))
    text = shown(show_gate, result, width)
    assert "flagged" in text
    assert "class0 −80.0" in text
    lines = text.splitlines()
    at = lines.index("int8 files against their own quantized graph, simulated on 100 of the 120 images")
    row = " ".join(lines[at + 1 :]).split("80.00")
    assert "12.3" in row[0]
    assert "+13.50" in row[2]
    first_sentence = next(i for i, line in enumerate(lines) if line.startswith(f"{NAME}: It is not. Top-1 fell"))
    assert max(map(len, lines[:first_sentence])) <= width
    assert f"{NAME}: Differs from its own quantized graph: 12.3 dB" in text
    assert f"{NAME}: It is not." in shown(show_evaluation, damaged, width)


def test_the_worst_classes_where_there_is_room(damaged: EvaluationResult) -> None:
    assert f"{NAME}: lost most in class0 (80.0 points)" in shown(show_evaluation, damaged, 140)
    assert "lost most in" not in shown(show_evaluation, damaged, 80)


def test_against_another_bundle_there_is_no_float_network(damaged: EvaluationResult) -> None:
    against = msgspec.structs.replace(damaged, reference=None, against="last")
    text = shown(show_gate, judge(against, GatePolicy(max_drop=30)))
    assert "float network" not in text
    assert "before" in text
    assert "against 'last'" in text.splitlines()[-1]
