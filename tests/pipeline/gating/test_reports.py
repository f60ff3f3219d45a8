"""What a CI dashboard makes of the gate's verdict."""

import xml.etree.ElementTree as ET
from typing import Any

import msgspec
import pytest

from pipeline.evaluation.per_class import ClassLoss, Suspects
from pipeline.evaluation.results import FORMAT, Drift, EvaluationResult, FileResult
from pipeline.gating.judge import FileVerdict, GatePolicy, GateResult
from pipeline.gating.reports import junit, markdown


def result(verdict: Any, *files: tuple[str, Any], data: str = "some data") -> GateResult:
    evaluation = EvaluationResult(
        format=FORMAT,
        data=data,
        data_sha256="0" * 64,
        images=450,
        skipped=(),
        classes=10,
        top_k=5,
        confidence=0.95,
        threads=1,
        reference=None,
        files=tuple(
            FileResult(path=path, sha256="0" * 64, status="not run", target="tflite", precision="int8")
            for path, _ in files
        ),
        notes=(),
    )
    verdicts = tuple(
        FileVerdict(
            path=path,
            target="tflite",
            precision="int8",
            verdict=kind,
            message="a < b & c",
            drop_points=0.5,
            interval_points=(-0.25, 1.25),
        )
        for path, kind in files
    )
    policy = GatePolicy(max_drop=1)
    return GateResult(verdict=verdict, message="as it went", policy=policy, files=verdicts, evaluation=evaluation)


def test_each_verdict_has_its_element() -> None:
    kinds = ["passed", "failed", "undecided", "not run", "not run (allowed)"]
    suite = ET.fromstring(junit(result("failed", *[(kind, kind) for kind in kinds]))).find("testsuite")
    assert suite is not None
    outcome = {case.get("name"): [child.tag for child in case] for case in suite.findall("testcase")}
    assert outcome == {
        "passed": ["system-out"],
        "failed": ["failure"],
        "undecided": ["error"],
        "not run": ["error"],
        "not run (allowed)": ["skipped"],
    }
    counts = {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "5", "failures": "1", "errors": "2", "skipped": "1"}
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert failure.get("message") == "a < b & c"


@pytest.mark.parametrize(
    ("verdict", "files", "green"),
    [
        ("passed", [("a", "passed"), ("b", "not run (allowed)")], True),
        ("undecided", [("a", "not run (allowed)")], False),  # every case is skipped, yet it must not look green
        ("undecided", [("a", "undecided")], False),
        ("failed", [("a", "failed")], False),
    ],
)
def test_only_a_passed_gate_looks_green(verdict: str, files: list[tuple[str, str]], green: bool) -> None:
    suite = ET.fromstring(junit(result(verdict, *files))).find("testsuite")
    assert suite is not None
    assert (suite.get("failures") == "0" and suite.get("errors") == "0") == green


def test_names_that_xml_cannot_hold() -> None:
    strange = "a\x00\x1b[31m<b>&\ud800.tflite"
    suite = ET.fromstring(junit(result("passed", (strange, "passed"), data="\x07"))).find("testsuite")
    assert suite is not None
    case = suite.find("testcase")
    assert case is not None
    assert case.get("name") == "a��[31m<b>&�.tflite"


def test_markdown() -> None:
    text = markdown(result("failed", ("x|y.pte", "failed"), ("good.pte", "passed"))).decode()
    lines = text.splitlines()
    assert lines[0] == "## ❌ as it went"
    rows = [line for line in lines if line.startswith("|")]
    assert rows[2] == r"| ❌ failed | `x\|y.pte` | tflite | int8 | – | +0.50 [−0.25, +1.25] | – | – |"
    assert len({row.replace(r"\|", "").count("|") for row in rows}) == 1
    assert [line for line in lines if line.startswith("- ")] == [r"- `x\|y.pte`: a < b & c"]


@pytest.fixture
def rich_result() -> GateResult:
    """A file with two flagged classes, a drift and a note, in a gate against another bundle."""
    plain = result("failed", ("a.pte", "failed"))
    losses = [
        ClassLoss(label=label, images=100, before=90.0, after=after, holm_p=1e-9)
        for label, after in (("cat|x", 0.0), ("dog", 40.0))
    ]
    verdict = msgspec.structs.replace(
        plain.files[0], classes=Suspects(limit=10, flagged=tuple(losses), open=()), notes=("Mind this.",)
    )
    drift = Drift(images=100, sqnr_db=47.8, agreement=0.99, simulated_top1=0.9, drop_points=-0.02)
    file = msgspec.structs.replace(plain.evaluation.files[0], drift=drift)
    evaluation = msgspec.structs.replace(plain.evaluation, files=(file,), against="last", repeated=("x.png", "y.png"))
    return msgspec.structs.replace(plain, files=(verdict,), evaluation=evaluation, notes=("And that.",))


def test_markdown_has_every_flagged_class(rich_result: GateResult) -> None:
    text = markdown(rich_result).decode()
    assert "Each file against that of `last`." in text
    assert r"| cat\|x −90.0, +1 | 47.8 dB, 99.00 %, drift −0.02 |" in text
    assert r"| cat\|x | `a.pte` | 100 | 90.0 | 0.0 | 90.0 | 1e-09 |" in text
    assert "| dog | `a.pte` | 100 | 90.0 | 40.0 | 50.0 | 1e-09 |" in text
    assert "- `a.pte`: Mind this." in text
    assert "- And that." in text
    assert "- 2 copies of other images left out: x.png, y.png." in text


def test_junit_has_drift_and_notes(rich_result: GateResult) -> None:
    suite = ET.fromstring(junit(rich_result)).find("testsuite")
    assert suite is not None
    properties = {item.get("name"): item.get("value") for item in suite.iter("property")}
    assert properties["against"] == "last"
    assert properties["class_drop_points"] == "10.0"
    assert properties["drift of a.pte"] == "47.8 dB, 99.00 %, drift −0.02"
    notes = [item.get("value") for item in suite.iter("property") if item.get("name") == "note"]
    assert notes == ["2 copies of other images left out: x.png, y.png.", "And that."]
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert failure.get("message") == "a < b & c Mind this."
