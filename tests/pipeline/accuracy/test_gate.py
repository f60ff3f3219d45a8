"""The gate's truth table, its sentences, and its policy."""

import math
from typing import Any

import msgspec
import pytest

from pipeline.accuracy.gate import GatePolicy, GateResult, judge
from pipeline.accuracy.paired import PairedTable, drop_interval, images_to_decide
from pipeline.accuracy.results import FORMAT, Comparison, EvaluationResult, FileResult, ReferenceResult
from pipeline.errors import BadInput


def ran(name: str, lost: int, gained: int, n: int = 10_000, target: str = "tflite") -> FileResult:
    """A file of n images whose float network gets 90 % right."""
    right = n * 9 // 10
    table = PairedTable(right - lost, lost, gained, n - right - gained)
    interval = drop_interval(table)
    return FileResult(
        path=name,
        sha256="0" * 64,
        status="run",
        target=target,
        precision="int8",
        top1=(right - lost + gained) / n,
        top5=1.0,
        comparison=Comparison(
            both=table.both,
            lost=lost,
            gained=gained,
            neither=table.neither,
            drop_points=100 * table.drop,
            interval_points=(100 * interval.low, 100 * interval.high),
            mcnemar_p=1.0,
            agreement=1.0,
        ),
        images_per_second=100.0,
    )


def other(name: str, status: Any, target: str) -> FileResult:
    return FileResult(path=name, sha256="0" * 64, status=status, target=target, precision="int8", reason="because")


def evaluation(*files: FileResult, n: int = 10_000) -> EvaluationResult:
    return EvaluationResult(
        format=FORMAT,
        data="some data",
        data_sha256="0" * 64,
        images=n,
        skipped=(),
        classes=10,
        top_k=5,
        confidence=0.95,
        threads=1,
        reference=ReferenceResult(path="c", sha256="0" * 64, top1=0.9, top5=1.0, images_per_second=1.0),
        files=files,
        notes=(),
    )


def gate(*files: FileResult, limit: float = 1.0, allow: tuple[str, ...] = ()) -> GateResult:
    return judge(evaluation(*files), GatePolicy(max_drop=limit, allow_not_run=allow))


PASSES = ran("good", 10, 5)  # 0.05 points, far below 1.0
FAILS = ran("bad", 320, 10)  # 3.1 points, far above
OPEN = ran("open", 110, 10)  # 1.0 points exactly
NOT_RUN = other("elsewhere", "not run", "coreml")
BROKEN = other("broken", "failed", "executorch")


@pytest.mark.parametrize(
    ("files", "allow", "verdict", "status"),
    [
        ([PASSES], (), "passed", 0),
        ([PASSES, PASSES], (), "passed", 0),
        ([FAILS], (), "failed", 3),
        ([OPEN], (), "undecided", 4),
        ([PASSES, OPEN], (), "undecided", 4),
        ([PASSES, FAILS], (), "failed", 3),
        ([OPEN, FAILS], (), "failed", 3),
        ([PASSES, NOT_RUN], (), "undecided", 4),
        ([PASSES, NOT_RUN], ("coreml",), "passed", 0),
        ([PASSES, NOT_RUN], ("tflite", "executorch"), "undecided", 4),
        ([FAILS, NOT_RUN], (), "failed", 3),
        ([OPEN, NOT_RUN], ("coreml",), "undecided", 4),
        ([NOT_RUN], ("coreml",), "undecided", 4),
        ([NOT_RUN], (), "undecided", 4),
        ([BROKEN], (), "failed", 3),
        ([BROKEN, PASSES], ("executorch",), "failed", 3),
        ([BROKEN, NOT_RUN], ("coreml", "executorch"), "failed", 3),
    ],
)
def test_truth_table(files: list[FileResult], allow: tuple[str, ...], verdict: str, status: int) -> None:
    result = gate(*files, allow=allow)
    assert (result.verdict, result.exit_status) == (verdict, status)
    assert [file.path for file in result.files] == [file.path for file in files]


def test_each_file_has_its_own_verdict() -> None:
    result = gate(PASSES, FAILS, OPEN, NOT_RUN, BROKEN, allow=("coreml",))
    assert [file.verdict for file in result.files] == ["passed", "failed", "undecided", "not run (allowed)", "failed"]
    assert [file.message for file in result.files[3:]] == ["because", "because"]
    assert result.message == "Gate failed at 1.0 points of top-1: 1 passed, 2 failed, 1 undecided, 1 not run (allowed)."


def test_the_limit_is_held_against_the_ends_of_the_interval() -> None:
    interval = drop_interval(PairedTable(8900, 100, 20, 980))
    low, high = 100 * interval.low, 100 * interval.high
    file = ran("f", 100, 20)
    assert gate(file, limit=math.nextafter(high, 100)).verdict == "passed"
    assert gate(file, limit=high - 1e-9).verdict == "undecided"
    assert gate(file, limit=low).verdict == "undecided"
    assert gate(file, limit=low - 1e-9).verdict == "failed"


def test_a_gain_passes_any_limit() -> None:
    result = gate(ran("better", 10, 200), limit=0)
    assert result.verdict == "passed"
    assert "Top-1 rose 1.9 points (90.0 → 91.9" in result.files[0].message


def test_the_sentence_of_a_failure() -> None:
    message = gate(FAILS).files[0].message
    assert message == "Top-1 fell 3.1 points (90.0 → 86.9, n = 10000, 95 % interval 2.8…3.5); limit 1.0."


@pytest.mark.parametrize(("lost", "verdict", "shown"), [(0, "passed", "0.8"), (1, "undecided", "1.2")])
def test_450_images_and_one_point(lost: int, verdict: str, shown: str) -> None:
    file = gate(ran("digits", lost, 0, n=450)).files[0]
    assert file.verdict == verdict
    assert f"…{shown}" in file.message


def test_rounding_does_not_contradict_the_verdict() -> None:
    """An upper end of 0.98 is not shown as 1.0 beside a limit of 1.0."""
    file = ran("f", 80, 2)
    result = gate(file).files[0]
    assert result.verdict == "passed"
    assert result.interval_points is not None
    assert 0.95 < result.interval_points[1] < 1
    assert f"…{result.interval_points[1]:.2f})" in result.message


def test_an_undecided_file_says_how_many_images_would_decide() -> None:
    file = gate(ran("f", 1, 0, n=450)).files[0]
    assert file.images_to_decide == images_to_decide(PairedTable(404, 1, 0, 45), 0.01) == 629
    assert file.message.endswith("limit 1.0. About 630 images would decide at the rates seen.")
    unmoved = gate(OPEN).files[0]
    assert unmoved.images_to_decide is None
    assert unmoved.message.endswith(
        "The drop is too near the limit: not even 10,000,000 images would decide at these rates."
    )


def test_nothing_ran_is_said() -> None:
    assert gate(NOT_RUN, allow=("coreml",)).message == (
        "Gate undecided at 1.0 points of top-1: 1 not run (allowed). Nothing ran, so nothing is shown."
    )


@pytest.mark.parametrize("limit", [-0.1, 100.1, math.nan, math.inf, -math.inf])
def test_limits_that_mean_nothing(limit: float) -> None:
    with pytest.raises(BadInput, match="0 to 100"):
        GatePolicy(max_drop=limit)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0, math.nan])
def test_confidences_that_mean_nothing(confidence: float) -> None:
    with pytest.raises(BadInput, match="between 0 and 1"):
        GatePolicy(max_drop=1, confidence=confidence)


def test_the_policy_decides_the_confidence() -> None:
    file = ran("f", 60, 20)
    wide = judge(evaluation(file), GatePolicy(max_drop=1, confidence=0.99999999))
    narrow = judge(evaluation(file), GatePolicy(max_drop=1, confidence=0.5))
    assert (wide.verdict, narrow.verdict) == ("undecided", "passed")


def test_no_gate_without_a_reference() -> None:
    with pytest.raises(BadInput, match="no reference"):
        judge(msgspec.structs.replace(evaluation(PASSES), reference=None), GatePolicy(max_drop=1))


def test_the_json_reads_back() -> None:
    result = gate(PASSES, OPEN, NOT_RUN)
    assert msgspec.json.decode(result.to_json(), type=GateResult) == result
