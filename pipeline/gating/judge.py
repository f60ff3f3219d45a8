"""The gate: may these files be shipped? Passed, failed, or not to be decided with so few images.

A file passes when even the upper end of its drop's interval is within the limit, fails when even the lower end is
above it (of several files by Holm's rule), and is undecided in between. It also fails for a class that it lost. Every
file must pass, so passing needs no correction; what was not run never passes. docs/gate.md has the rules with their
sources.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
from msgspec.structs import replace

from pipeline.errors import BadInput
from pipeline.evaluation.parity import is_unlike
from pipeline.evaluation.per_class import Suspects, blind_spots, suspects
from pipeline.evaluation.results import Comparison, EvaluationResult, FileResult, readable_json
from pipeline.gating import messages as words
from pipeline.metrics.paired import PairedTable, drop_interval, drop_p, holm, images_to_decide

Verdict = Literal["passed", "failed", "undecided"]

CLASS_DROP = 10.0
"""Points of a class's accuracy; more is flagged unless another number is asked for."""

KNOWLEDGE = 0.5
"""Share of the reference's accuracy beyond that of one constant answer; a limit must be below it."""

LOOKS_LIKE_A_FRACTION = 0.1
"""Points; who writes less may have meant a fraction of 1."""

EXIT_STATUS: dict[Verdict, int] = {"passed": 0, "failed": 3, "undecided": 4}


class GatePolicy(msgspec.Struct, frozen=True, kw_only=True):
    """The limits: ``max_drop`` in points of top-1, 0…100, held with ``confidence``.

    A file also fails for a class that fell by more than ``class_drop`` points of its own accuracy, beyond what chance
    explains at ``class_level``; None looks at no class. ``allow_not_run`` names targets whose files may be "not run"
    without leaving the gate undecided.
    """

    max_drop: float
    confidence: float = 0.95
    class_drop: float | None = CLASS_DROP
    class_level: float = 0.05
    allow_not_run: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not (math.isfinite(self.max_drop) and 0 <= self.max_drop <= 100):
            raise BadInput(f"max-drop is {self.max_drop}; it is in points of top-1, 0 to 100.")
        if self.class_drop is not None and not 0 <= self.class_drop < 100:
            raise BadInput(
                f"class-drop is {self.class_drop}; it is in points of a class's accuracy, 0 to below 100. "
                "To look at no class, give `no_class_flags`."
            )
        if not 0 < self.confidence < 1:
            raise BadInput(f"confidence is {self.confidence}; it must lie between 0 and 1.")
        if not 0 < self.class_level < 1:
            raise BadInput(f"class-level is {self.class_level}; it must lie between 0 and 1.")

    @property
    def failing_level(self) -> float:
        """One-sided: a p below it is an interval above the limit."""
        return (1 - self.confidence) / 2


class FileVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """One file's verdict and why, in one line.

    ``holm_p`` is the one-sided p of "the drop is within the limit", corrected for all files that ran.
    ``images_to_decide`` is for an undecided file, where there is such a number. ``classes`` are those that fell by
    more than is allowed. ``most_damaged`` is the layer whose rounding alone changes the logits most, of an int8 file
    that rounding failed. ``notes`` are what to know of it whatever the verdict.
    """

    path: str
    target: str | None
    precision: str | None
    verdict: Literal["passed", "failed", "undecided", "not run", "not run (allowed)"]
    message: str
    drop_points: float | None = None
    interval_points: tuple[float, float] | None = None
    holm_p: float | None = None
    images_to_decide: int | None = None
    classes: Suspects | None = None
    most_damaged: str | None = None
    notes: tuple[str, ...] = ()


class GateResult(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict on a bundle with everything it rests on."""

    verdict: Verdict
    message: str
    policy: GatePolicy
    files: tuple[FileVerdict, ...]
    evaluation: EvaluationResult
    notes: tuple[str, ...] = ()

    @property
    def exit_status(self) -> int:
        """0 passed, 3 failed, 4 undecided."""
        return EXIT_STATUS[self.verdict]

    def to_json(self) -> bytes:
        """Indented JSON, UTF-8."""
        return readable_json(self)


def judge(evaluation: EvaluationResult, policy: GatePolicy) -> GateResult:
    """Hold an evaluation against a policy.

    Raises:
        BadInput: the evaluation has no reference and so no drop, or no counts per class, or is on the pictures that
            trained the network; every target may be "not run"; a class with a folder is without a usable image; the
            limit is so high, or the images are so uneven, that a file would pass that lost half of what the network
            knows.
    """
    if evaluation.reference is None and evaluation.against is None:
        raise BadInput("The gate needs a drop, and this evaluation has no reference: gate a bundle.")
    if evaluation.trained_on:
        raise BadInput(
            f"The network was trained on '{evaluation.data}', and a drop there says nothing about other images. "
            f"{words.HOLD_BACK}"
        )
    if evaluation.overlap.trained:
        raise BadInput(words.trained_on_some(evaluation.overlap.trained, evaluation.data))
    compared = {file.path: file.comparison for file in evaluation.files if file.comparison is not None}
    _check_targets(evaluation, policy)
    for comparison in compared.values():
        _check_reference(comparison, evaluation, policy)
    above = [drop_p(comparison.table(), policy.max_drop / 100) for comparison in compared.values()]
    corrected = dict(zip(compared, holm(above), strict=True))
    classes: Mapping[str, Suspects] = {}
    if policy.class_drop is not None:
        classes = suspects(compared, evaluation.labels, policy.class_drop, policy.class_level)
    files = tuple(_judge_file(file, corrected, classes.get(file.path), evaluation, policy) for file in evaluation.files)
    verdict = _overall(files)
    return GateResult(
        verdict=verdict,
        message=words.summary(
            verdict,
            [file.verdict for file in files],
            policy.max_drop,
            evaluation.against,
            words.covers(evaluation.absent_classes, evaluation.classes) if evaluation.absent_classes else "",
        ),
        policy=policy,
        files=files,
        evaluation=evaluation,
        notes=tuple(_notes(compared, evaluation, policy)),
    )


def failed_by_rounding(result: GateResult) -> tuple[str, ...]:
    """Paths of the int8 files that lost too much against their float network, answering as their own graph does.

    Of the others the loss is not, or not surely, quantization's: a file unlike its graph or manifest, another release.
    """
    if result.evaluation.against is not None:
        return ()
    return tuple(
        verdict.path
        for verdict, file in zip(result.files, result.evaluation.files, strict=True)
        if verdict.verdict == "failed" and file.unlike_manifest is None and file.comparison is not None
        if file.drift is not None and not is_unlike(file.drift)
    )


def with_most_damaged(result: GateResult, layer: str, decibels: float) -> GateResult:
    """Name the layer, with the SQNR of the logits where it alone is int8, in the reasons of what rounding failed."""
    paths, said = failed_by_rounding(result), words.most_damaged(layer, decibels)
    files = tuple(
        replace(file, most_damaged=layer, message=f"{file.message} {said}") if file.path in paths else file
        for file in result.files
    )
    return replace(result, files=files)


def _check_targets(evaluation: EvaluationResult, policy: GatePolicy) -> None:
    """A build whose runtimes are all broken must not turn green."""
    targets = {file.target for file in evaluation.files if file.target}
    if targets and targets <= set(policy.allow_not_run):
        raise BadInput(
            f"`allow_not_run` names every target of the bundle ({', '.join(sorted(targets))}): then nothing needs to "
            "run. Name only those that this machine cannot run."
        )


def check_limit(
    policy: GatePolicy,
    sizes: Sequence[int],
    labels: Sequence[str],
    data: str,
    right: int | None = None,
    absent: Sequence[str] = (),
) -> None:
    """Refuse pictures or a limit with which a file without any knowledge would pass; ``BadInput``.

    ``sizes`` are the pictures of each of ``labels``. ``right``: how many the reference answers rightly; None where that
    is not known yet, and what is refused is refused of any reference. ``absent``: labels that the data has no folder
    for, which the verdict does not cover; a folder without a usable image is refused.
    """
    total, most_common = sum(sizes), max(sizes)
    label = labels[sizes.index(most_common)]
    known, constant = 100 * (total if right is None else right) / total, 100 * most_common / total
    found = (
        f"the reference is right on {known:.1f} % of '{data}'{' at best' if right is None else ''}, and "
        f"{constant:.1f} % of it is '{label}'"
    )
    if most_common == total:
        raise BadInput(words.one_class(total, data, label))
    if known <= constant:
        raise BadInput(words.no_better(known, data, label, constant))
    missing = [label for label, size in zip(labels, sizes, strict=True) if not size and label not in absent]
    if missing:
        raise BadInput(words.unseen(missing, data))
    most = KNOWLEDGE * (known - constant)
    if policy.max_drop >= most:
        raise BadInput(
            f"A limit of {policy.max_drop:g} points would pass a file that lost half of what the network knows: "
            f"{found}. Choose a `max_drop` below {most:.1f}."
        )


def _check_reference(comparison: Comparison, evaluation: EvaluationResult, policy: GatePolicy) -> None:
    if not comparison.per_class:
        raise BadInput("This evaluation has no counts per class, which the gate needs: evaluate again.")
    table = comparison.table()
    sizes = [sum(counts) for counts in comparison.per_class]
    check_limit(policy, sizes, evaluation.labels, evaluation.data, table.both + table.lost, evaluation.absent_classes)


def _overall(files: tuple[FileVerdict, ...]) -> Verdict:
    verdicts = {file.verdict for file in files}
    if "failed" in verdicts:
        return "failed"
    if verdicts & {"undecided", "not run"} or "passed" not in verdicts:  # a gate that ran nothing has shown nothing
        return "undecided"
    return "passed"


def _judge_file(
    file: FileResult,
    corrected: Mapping[str, float],
    classes: Suspects | None,
    evaluation: EvaluationResult,
    policy: GatePolicy,
) -> FileVerdict:
    verdict = FileVerdict(
        path=file.path,
        target=file.target,
        precision=file.precision,
        verdict="failed",
        message=file.unlike_manifest or file.reason or "",
        notes=(*filter(None, [file.uncounted]), *words.about_drift(file.drift)),
    )
    if file.unlike_manifest is None and file.status == "not run":
        allowed = file.target in policy.allow_not_run
        return replace(verdict, verdict="not run (allowed)" if allowed else "not run")
    if file.comparison is None:
        return verdict
    table = file.comparison.table()
    interval = drop_interval(table, policy.confidence)
    verdict = replace(
        verdict,
        drop_points=100 * table.drop,
        interval_points=(100 * interval.low, 100 * interval.high),
        holm_p=corrected[file.path],
        classes=classes,
    )
    lost = classes is not None and bool(classes.flagged)
    said = [words.drop(table, interval, policy.max_drop, policy.confidence, evaluation.against)]
    decision: Verdict = "passed"
    if interval.high > policy.max_drop / 100:
        above = interval.low > policy.max_drop / 100
        decision = "failed" if above and corrected[file.path] < policy.failing_level else "undecided"
        if decision == "undecided" and not lost and file.unlike_manifest is None:
            needed = _images_to_decide(table, len(corrected), policy)
            verdict = replace(verdict, images_to_decide=needed)
            if above:
                said.append(words.by_chance(len(corrected), corrected[file.path], policy.failing_level))
            said.append(words.outlook(table, needed))
    if classes is not None and classes.flagged:
        decision = "failed"
        said.append(words.flagged(classes))
    if classes is not None and classes.open:
        verdict = replace(verdict, notes=(words.not_flagged(classes), *verdict.notes))
    if file.unlike_manifest is not None:
        decision = "failed"
        said.insert(0, file.unlike_manifest)
    if file.uncounted is not None and decision == "passed" and file.target not in policy.allow_not_run:
        decision = "undecided"
    return replace(verdict, verdict=decision, message=" ".join(said))


def _images_to_decide(table: PairedTable, files: int, policy: GatePolicy) -> int | None:
    """Passing takes the policy's confidence; failing, at worst, what Holm's rule asks of the first of so many files."""
    limit = policy.max_drop / 100
    error = 1 - policy.confidence
    return images_to_decide(table, limit, 1 - error / files if table.drop > limit else policy.confidence)


def _notes(compared: Mapping[str, Comparison], evaluation: EvaluationResult, policy: GatePolicy) -> list[str]:
    notes = []
    if 0 < policy.max_drop < LOOKS_LIKE_A_FRACTION:
        notes.append(words.fraction(policy.max_drop, evaluation.images))
    if policy.class_drop is None:
        notes.append(words.NO_CLASSES)
    elif compared:
        blind = blind_spots(compared, policy.class_drop, policy.class_level)
        comparison = next(iter(compared.values()))
        if blind:
            names = [(evaluation.labels[index], sum(comparison.per_class[index])) for index in blind]
            notes.append(words.blind(names, evaluation.classes - len(evaluation.absent_classes)))
    return notes
