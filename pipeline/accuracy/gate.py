"""The gate: may these files be shipped? Passed, failed, or not to be decided with so few images.

A file passes when even the upper end of its drop's interval is within the limit, fails when even the lower end is
above it, and is undecided in between. Every file must pass; what was not run never passes.
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from pipeline.accuracy.paired import MOST_IMAGES, Interval, PairedTable, drop_interval, images_to_decide
from pipeline.accuracy.results import EvaluationResult, FileResult
from pipeline.errors import BadInput

Verdict = Literal["passed", "failed", "undecided"]

EXIT_STATUS: dict[Verdict, int] = {"passed": 0, "failed": 3, "undecided": 4}


class GatePolicy(msgspec.Struct, frozen=True, kw_only=True):
    """The limit: ``max_drop`` in points of top-1, 0…100, held with ``confidence``.

    ``allow_not_run`` names targets whose files may be "not run" without leaving the gate undecided.
    """

    max_drop: float
    confidence: float = 0.95
    allow_not_run: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not (math.isfinite(self.max_drop) and 0 <= self.max_drop <= 100):
            raise BadInput(f"max-drop is {self.max_drop}; it is in points of top-1, 0 to 100.")
        if not 0 < self.confidence < 1:
            raise BadInput(f"confidence is {self.confidence}; it must lie between 0 and 1.")


class FileVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """One file's verdict and why, in one line; ``images_to_decide`` is for an undecided one, where there is one."""

    path: str
    target: str | None
    precision: str | None
    verdict: Literal["passed", "failed", "undecided", "not run", "not run (allowed)"]
    message: str
    drop_points: float | None = None
    interval_points: tuple[float, float] | None = None
    images_to_decide: int | None = None


class GateResult(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict on a bundle with everything it rests on."""

    verdict: Verdict
    message: str
    policy: GatePolicy
    files: tuple[FileVerdict, ...]
    evaluation: EvaluationResult

    @property
    def exit_status(self) -> int:
        """0 passed, 3 failed, 4 undecided."""
        return EXIT_STATUS[self.verdict]

    def to_json(self) -> bytes:
        """Indented JSON, UTF-8."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1)


def judge(evaluation: EvaluationResult, policy: GatePolicy) -> GateResult:
    """Hold an evaluation against a policy; raises ``BadInput`` where it has no reference, and so no drop."""
    if evaluation.reference is None:
        raise BadInput("The gate needs a drop, and this evaluation has no reference: gate a bundle.")
    files = tuple(_judge_file(file, evaluation, policy) for file in evaluation.files)
    verdict = _overall(files)
    return GateResult(
        verdict=verdict, message=_summary(verdict, files, policy), policy=policy, files=files, evaluation=evaluation
    )


def _overall(files: tuple[FileVerdict, ...]) -> Verdict:
    verdicts = {file.verdict for file in files}
    if "failed" in verdicts:
        return "failed"
    if verdicts & {"undecided", "not run"} or "passed" not in verdicts:  # a gate that ran nothing has shown nothing
        return "undecided"
    return "passed"


def _judge_file(file: FileResult, evaluation: EvaluationResult, policy: GatePolicy) -> FileVerdict:
    verdict = FileVerdict(
        path=file.path, target=file.target, precision=file.precision, verdict="failed", message=file.reason or ""
    )
    if file.status == "failed":
        return verdict
    if file.status == "not run":
        allowed = file.target in policy.allow_not_run
        return msgspec.structs.replace(verdict, verdict="not run (allowed)" if allowed else "not run")
    assert file.comparison is not None  # judge checked that there was a reference
    assert file.top1 is not None
    assert evaluation.reference is not None
    table = file.comparison.table()
    interval = drop_interval(table, policy.confidence)
    limit = policy.max_drop / 100
    decision: Verdict = "passed" if interval.high <= limit else "failed" if interval.low > limit else "undecided"
    needed = images_to_decide(table, limit, policy.confidence) if decision == "undecided" else None
    return msgspec.structs.replace(
        verdict,
        verdict=decision,
        message=_sentence(table, interval, evaluation.reference.top1, file.top1, policy)
        + (_outlook(needed) if decision == "undecided" else ""),
        drop_points=100 * table.drop,
        interval_points=(100 * interval.low, 100 * interval.high),
        images_to_decide=needed,
    )


def _sentence(table: PairedTable, interval: Interval, before: float, after: float, policy: GatePolicy) -> str:
    """``Top-1 fell 3.1 points (91.9 → 88.8, n = 10000, 95 % interval 2.7…3.5); limit 1.0.``"""
    low, high = 100 * interval.low, 100 * interval.high
    digits = _digits(low, high, policy.max_drop)
    points = 100 * table.drop
    moved = f"{'fell' if points > 0 else 'rose'} {abs(points):.{digits}f} points" if points else "did not change"
    return (
        f"Top-1 {moved} ({100 * before:.{digits}f} → {100 * after:.{digits}f}, n = {table.n}, "
        f"{100 * policy.confidence:g} % interval {_number(low, digits)}…{_number(high, digits)}); "
        f"limit {_limit(policy)}."
    )


def _outlook(needed: int | None) -> str:
    if needed is None:
        return f" The drop is too near the limit: not even {MOST_IMAGES:,} images would decide at these rates."
    step = 10 ** max(0, len(str(needed)) - 2)  # two figures, upwards: the rates themselves are estimates
    return f" About {-(-needed // step) * step:,} images would decide at the rates seen."


def _digits(low: float, high: float, limit: float) -> int:
    """One decimal; more where rounding would move an end of the interval onto or over the limit."""
    for digits in (1, 2, 3):
        if all(_side(round(end, digits), limit) == _side(end, limit) for end in (low, high)):
            return digits
    return 4


def _side(value: float, limit: float) -> int:
    return (value > limit) - (value < limit)


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}".replace("-", "−")


def _limit(policy: GatePolicy) -> str:
    return f"{policy.max_drop:.1f}" if round(policy.max_drop, 1) == policy.max_drop else f"{policy.max_drop:g}"


def _summary(verdict: Verdict, files: tuple[FileVerdict, ...], policy: GatePolicy) -> str:
    verdicts = [file.verdict for file in files]
    kinds = ("passed", "failed", "undecided", "not run", "not run (allowed)")
    listed = ", ".join(f"{verdicts.count(kind)} {kind}" for kind in kinds if kind in verdicts)
    nothing = " Nothing ran, so nothing is shown." if set(verdicts) <= {"not run", "not run (allowed)"} else ""
    return f"Gate {verdict} at {_limit(policy)} points of top-1: {listed}.{nothing}"
