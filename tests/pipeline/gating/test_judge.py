"""The gate's truth table, its sentences, and its policy."""

import math
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from scipy.stats import norm

from pipeline.errors import BadInput
from pipeline.evaluation.results import (
    FORMAT,
    Comparison,
    Counts,
    Drift,
    EvaluationResult,
    FileResult,
    LooksLike,
    Overlap,
    ReferenceResult,
)
from pipeline.gating.judge import GatePolicy, GateResult, failed_by_rounding, judge, with_most_damaged
from pipeline.metrics.paired import PairedTable, drop_interval, images_to_decide

LABELS = tuple(f"class{i}" for i in range(10))


def spread(count: int) -> list[int]:
    """Over ten classes, as evenly as it goes."""
    return [count // 10 + (i < count % 10) for i in range(10)]


def evenly(lost: int, gained: int, n: int) -> list[Counts]:
    """Counts per class of n images whose float network gets 90 % right."""
    right = n * 9 // 10
    counts = (right - lost, lost, gained, n - right - gained)
    return [(both, a, b, neither) for both, a, b, neither in zip(*map(spread, counts), strict=True)]


def ran(
    name: str, lost: int, gained: int, n: int = 10_000, target: str = "tflite", drift: Drift | None = None
) -> FileResult:
    """A file of n images whose float network gets 90 % right; what it lost lies evenly over the classes."""
    return by_class(name, evenly(lost, gained, n), target, drift)


def by_class(name: str, per_class: Sequence[Counts], target: str = "tflite", drift: Drift | None = None) -> FileResult:
    """A file with these counts."""
    both, lost, gained, neither = map(sum, zip(*per_class, strict=True))
    table = PairedTable(both, lost, gained, neither)
    interval = drop_interval(table)
    return FileResult(
        path=name,
        sha256="0" * 64,
        status="run",
        target=target,
        precision="int8",
        top1=(both + gained) / table.n,
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
            per_class=tuple(per_class),
        ),
        drift=drift,
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
        labels=LABELS,
    )


def gate(*files: FileResult, limit: float = 1.0, allow: tuple[str, ...] = (), **policy: Any) -> GateResult:
    return judge(evaluation(*files), GatePolicy(max_drop=limit, allow_not_run=allow, **policy))


PASSES = ran("good", 10, 5)  # 0.05 points, far below 1.0
FAILS = ran("bad", 320, 10)  # 3.1 points, far above
OPEN = ran("open", 110, 10)  # 1.0 points exactly
NOT_RUN = other("elsewhere", "not run", "coreml")
ELSEWHERE = other("elsewhere.pte", "not run", "executorch")
BROKEN = other("broken", "failed", "executorch")
VANISHED = by_class("vanished", [(0, 60, 0, 40), *[(900, 0, 60 // 9, 100)] * 9])  # one rare class gone; top-1 unmoved


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
        ([NOT_RUN, ELSEWHERE], ("coreml",), "undecided", 4),
        ([NOT_RUN], (), "undecided", 4),
        ([BROKEN], (), "failed", 3),
        ([BROKEN, PASSES], ("executorch",), "failed", 3),
        ([BROKEN, NOT_RUN], ("coreml",), "failed", 3),
        ([VANISHED], (), "failed", 3),
        ([VANISHED, NOT_RUN, OPEN], ("coreml",), "failed", 3),
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
    none_differs = gate(ran("f", 0, 0, n=50)).files[0]
    assert none_differs.message.endswith("limit 1.0. About 390 images would decide if still none of them differs.")
    unmoved = gate(OPEN).files[0]
    assert unmoved.images_to_decide is None
    assert unmoved.message.endswith(
        "The drop is too near the limit: not even 10,000,000 images would decide at these rates."
    )


def test_nothing_ran_is_said() -> None:
    assert gate(NOT_RUN, ELSEWHERE, allow=("coreml",)).message == (
        "Gate undecided at 1.0 points of top-1: 1 not run, 1 not run (allowed). Nothing ran, so nothing is shown."
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


@pytest.mark.parametrize("allow", [("coreml",), ("coreml", "executorch", "tflite")])
def test_not_every_target_may_be_left_out(allow: tuple[str, ...]) -> None:
    with pytest.raises(BadInput, match=r"names every target of the bundle \(coreml\)"):
        gate(NOT_RUN, allow=allow)
    with pytest.raises(BadInput, match="names every target"):
        gate(PASSES, NOT_RUN, allow=("coreml", "tflite"))  # before anything breaks, not only on the day it does


class TestSeveralFiles:
    """Failing by Holm's rule; passing without a correction."""

    def edge(self, name: str = "edge", n: int = 10_000) -> FileResult:
        """Its 95 % interval lies just above one point: p is 0.02."""
        file = ran(name, 121, 0, n)
        assert 0.01 < norm.sf(score(121, n)) < 0.025
        return file

    def test_alone_it_fails_as_the_interval_says(self) -> None:
        result = gate(self.edge()).files[0]
        assert (result.verdict, result.holm_p) == ("failed", pytest.approx(norm.sf(score(121, 10_000))))

    def test_beside_others_it_may_be_chance(self) -> None:
        result = gate(self.edge(), PASSES, ran("second", 0, 0))
        file = result.files[0]
        assert (result.verdict, file.verdict) == ("undecided", "undecided")
        assert file.holm_p == pytest.approx(3 * norm.sf(score(121, 10_000)))
        assert "The interval lies above the limit, but of 3 files one may do so by chance" in file.message
        assert "below 0.025 would fail it" in file.message
        # Bonferroni's z for the first of three, at the score's growth with the root of n.
        assert file.images_to_decide == pytest.approx(
            10_000 * (norm.isf(0.025 / 3) / score(121, 10_000)) ** 2, rel=1e-3
        )
        assert file.images_to_decide > 10_000

    def test_what_was_not_run_is_no_test(self) -> None:
        assert gate(self.edge(), NOT_RUN, BROKEN, allow=("coreml",)).files[0].verdict == "failed"

    def test_holm_goes_on_where_bonferroni_stops(self) -> None:
        """The clear failure is refused first, so the next one is one of two, not of three."""
        near = ran("near", 123, 0)
        assert 0.025 / 3 < norm.sf(score(123, 10_000)) < 0.025 / 2
        assert [file.verdict for file in gate(FAILS, near, PASSES).files] == ["failed", "failed", "passed"]
        assert [file.verdict for file in gate(near, PASSES, ran("second", 0, 0)).files] == [
            "undecided",
            "passed",
            "passed",
        ]

    def test_passing_needs_no_correction(self) -> None:
        many = [ran(f"barely{i}", 80, 0) for i in range(50)]
        result = gate(*many)
        assert 0.95 < result.files[0].interval_points[1] < 1  # type: ignore[index]
        assert (result.verdict, len(result.files)) == ("passed", 50)


def score(lost: int, n: int) -> float:
    """Tango's T at one point where nothing was gained, in closed form: q̃ = 0, so the variance is n·δ·(1 − δ)."""
    return (lost - 0.01 * n) / math.sqrt(n * 0.01 * 0.99)


class TestClasses:
    """Flagged classes fail their file."""

    def test_a_class_that_vanished_fails_a_file_whose_top1_hardly_moved(self) -> None:
        file = gate(VANISHED).files[0]
        assert file.drop_points is not None
        assert abs(file.drop_points) < 0.1
        assert file.message.endswith(
            "; limit 1.0. 1 class fell more than 10 points: 'class0' 60.0 (60.0 → 0.0, n = 100, Holm p 8.7e-18)."
        )
        assert file.classes is not None
        assert [loss.label for loss in file.classes.flagged] == ["class0"]
        assert file.classes.flagged[0].holm_p == pytest.approx(10 * 0.5**60)

    def test_a_gain_elsewhere_is_no_excuse_and_no_flag(self) -> None:
        gained = by_class("f", [(300, 0, 600, 100), *[(900, 0, 0, 100)] * 9])
        assert gate(gained).verdict == "passed"

    def test_all_classes_of_all_files_are_one_family(self) -> None:
        lost_8 = by_class("a", [(42, 8, 0, 0), *[(45, 0, 0, 5)] * 9])
        same = by_class("b", [(45, 0, 0, 5)] * 10)
        alone, company = gate(lost_8, limit=30).files[0], gate(lost_8, same, limit=30).files[0]
        assert alone.verdict == "failed"  # 10 · ½⁸ = 0.039
        assert company.verdict == "passed"  # 20 · ½⁸ = 0.078
        assert company.notes == (
            "1 class fell more than 10 points, but chance may explain it (not flagged): 'class0' 16.0 (100.0 → 84.0, "
            "n = 50, Holm p 0.078).",
        )

    def test_exactly_the_limit_is_allowed(self) -> None:
        at_limit = by_class("f", [(800, 100, 0, 100), *[(900, 0, 0, 100)] * 9])
        assert gate(at_limit, limit=5).files[0].verdict == "passed"
        over = by_class("f", [(799, 101, 0, 100), *[(900, 0, 0, 100)] * 9])
        assert gate(over, limit=5).files[0].verdict == "failed"
        assert gate(over, limit=5, class_drop=11).files[0].verdict == "passed"

    def test_switched_off_it_says_so(self) -> None:
        result = gate(VANISHED, class_drop=None)
        assert result.verdict == "passed"
        assert result.files[0].classes is None
        assert result.notes == (
            "Classes were not looked at (`no_class_flags`): a class that vanished can hide in top-1.",
        )

    def test_classes_of_five_images_cannot_be_flagged_and_that_is_said(self) -> None:
        gone = by_class("f", [(0, 5, 0, 0), *[(5, 0, 0, 0)] * 9])
        result = gate(gone, limit=40)
        assert result.verdict == "passed"
        assert result.files[0].notes[0].startswith("1 class fell more than 10 points, but chance may explain it")
        assert result.notes == (
            "10 of 10 classes have too few images that the reference gets right to be flagged, even if none were right "
            "any more: 'class0' (5), 'class1' (5), 'class2' (5) and 7 more.",
        )

    def test_an_undecided_file_with_a_flagged_class_has_failed(self) -> None:
        file = by_class("f", [(800, 110, 0, 90), *[(900, 0, 1, 99)] * 9])
        result = gate(file).files[0]
        assert result.verdict == "failed"
        assert result.images_to_decide is None
        assert "would decide" not in result.message

    def test_many_flagged_classes_are_counted(self) -> None:
        file = gate(by_class("f", [(400, 500, 0, 100)] * 5 + [(900, 0, 0, 100)] * 5)).files[0]
        assert "5 classes fell more than 10 points" in file.message
        assert file.message.endswith(" and 2 more.")
        assert file.classes is not None
        assert len(file.classes.flagged) == 5


@pytest.mark.parametrize("drop", [100, 101, -1, math.nan, math.inf])
def test_class_limits_that_mean_nothing(drop: float) -> None:
    with pytest.raises(BadInput, match="`no_class_flags`"):
        GatePolicy(max_drop=1, class_drop=drop)


class TestNothingShown:
    """A limit or images with which a file that knows nothing would pass."""

    @pytest.mark.parametrize("limit", [40, 80, 100])
    def test_a_limit_that_half_of_the_knowledge_passes(self, limit: float) -> None:
        with pytest.raises(BadInput, match=r"lost half of what the network knows.*'class0'.*`max_drop` below 40.0"):
            gate(PASSES, limit=limit)
        assert gate(PASSES, limit=39.9).verdict == "passed"

    def test_one_class(self) -> None:
        one = by_class("f", [(900, 0, 0, 100), *[(0, 0, 0, 0)] * 9])
        with pytest.raises(
            BadInput, match=r"cannot show a drop: all 1,000 images of '.*' are of one class, 'class0', so"
        ):
            gate(one)

    def test_a_class_without_a_picture(self) -> None:
        unseen = by_class("f", [(100, 0, 0, 10)] * 9 + [(0, 0, 0, 0)])
        with pytest.raises(BadInput, match="no usable picture of 'class9': of a class that nobody looked at"):
            gate(unseen, limit=5)

    def test_a_class_without_a_folder(self) -> None:
        """It is no finding about the data, and the verdict says that it does not cover it."""
        few = by_class("f", [(900, 0, 0, 100)] * 5 + [(0, 0, 0, 0)] * 5)
        absent = msgspec.structs.replace(evaluation(few, n=5000), absent_classes=LABELS[5:])
        result = judge(absent, GatePolicy(max_drop=1))
        assert result.verdict == "passed"
        assert result.message == (
            "Gate passed at 1.0 points of top-1: 1 passed. Covers 5 of 10 classes; not judged: class5, class6, class7 "
            "and 2 more."
        )
        assert result.notes == ()
        with pytest.raises(BadInput, match="no usable picture of 'class5'"):
            judge(msgspec.structs.replace(absent, absent_classes=LABELS[6:]), GatePolicy(max_drop=1))

    def test_one_image(self) -> None:
        one = by_class("f", [(1, 0, 0, 0), *[(0, 0, 0, 0)] * 9])
        with pytest.raises(BadInput, match="cannot show a drop: the only image of '.*' is of one class, 'class0'"):
            gate(one, limit=100)

    def test_a_reference_that_guesses(self) -> None:
        guesses = by_class("f", [(100, 0, 0, 900)] * 10)
        with pytest.raises(BadInput) as caught:
            gate(guesses)
        assert "the reference is right on 10.0 % of" in str(caught.value)
        assert "which does not beat saying 'class0' for every image (10.0 %)" in str(caught.value)
        assert "Train the network longer or on more images, then export and gate it again." in str(caught.value)

    def test_an_evaluation_of_an_earlier_version(self) -> None:
        assert PASSES.comparison is not None
        old = msgspec.structs.replace(PASSES, comparison=msgspec.structs.replace(PASSES.comparison, per_class=()))
        with pytest.raises(BadInput, match="evaluate again"):
            gate(old)


def test_a_limit_meant_as_a_fraction_is_pointed_out() -> None:
    result = judge(evaluation(ran("f", 0, 0, n=450), n=450), GatePolicy(max_drop=0.01))
    assert result.verdict == "undecided"
    assert result.notes == (
        "A limit of 0.01 points is 0.045 of these 450 images. `max_drop` is in points: one percent is 1.",
    )
    assert judge(evaluation(ran("f", 0, 0, n=450), n=450), GatePolicy(max_drop=1)).notes == ()


def test_drift_is_a_loud_note_and_no_verdict() -> None:
    """The gate judges the file, drift and all; a file that is as good as the float network may be shipped."""

    def with_drift(decibels: float, agreement: float) -> FileResult:
        drift = Drift(images=1000, sqnr_db=decibels, agreement=agreement, simulated_top1=0.9, drop_points=0.5)
        return ran("f", 10, 5, drift=drift)

    assert gate(with_drift(45.5, 0.999)).files[0].notes == ()
    for decibels, agreement in ((25.0, 1.0), (50.0, 0.97)):
        result = gate(with_drift(decibels, agreement))
        assert result.verdict == "passed"
        measured = f"{decibels:.1f} dB, same class on {100 * agreement:.2f} % of 1000 images"
        assert result.files[0].notes[0].startswith(f"Differs from its own quantized graph: {measured}")


def test_the_pictures_that_trained_the_network_show_nothing() -> None:
    seen = msgspec.structs.replace(evaluation(PASSES), trained_on=True)
    with pytest.raises(BadInput, match="The network was trained on 'some data'"):
        judge(seen, GatePolicy(max_drop=1))


@pytest.mark.parametrize(("names", "count"), [(("cat/1.png",), "1 image"), (("cat/1.png", "dog/2.png"), "2 images")])
def test_images_among_those_that_trained_the_network_are_refused(names: tuple[str, ...], count: str) -> None:
    seen = msgspec.structs.replace(evaluation(PASSES), overlap=Overlap(trained=names))
    with pytest.raises(BadInput, match=f"trained on {count} of 'some data', by content .first: 'cat/1.png'.: a drop"):
        judge(seen, GatePolicy(max_drop=1))


def test_images_that_look_like_those_that_trained_the_network_are_not() -> None:
    like = LooksLike(name="cat/1.png", like=None, bits=2)
    found = msgspec.structs.replace(evaluation(PASSES), overlap=Overlap(like_trained=(like,)))
    assert judge(found, GatePolicy(max_drop=1)).verdict == "passed"


def test_a_layer_is_named_where_rounding_failed_a_file() -> None:
    """Not where the file is another than was quantized, nor where the other side is another release."""
    faithful = Drift(images=1000, sqnr_db=200.0, agreement=1.0, simulated_top1=0.9, drop_points=0.0)
    fails = msgspec.structs.replace(FAILS, drift=faithful)
    unlike = ran("unlike", 320, 10, drift=msgspec.structs.replace(faithful, sqnr_db=12.0))
    changed = msgspec.structs.replace(fails, path="changed", unlike_manifest="It is not.")
    floating = msgspec.structs.replace(FAILS, path="float")  # has no graph of its own to drift from
    result = gate(fails, unlike, changed, floating, PASSES)
    assert failed_by_rounding(result) == ("bad",)
    named = with_most_damaged(result, "features.14.conv", 9.44)
    assert named.files[0].message == f"{result.files[0].message} Most damaged layer: features.14.conv (9.4 dB)."
    assert named.files[0].most_damaged == "features.14.conv"
    assert named.files[1:] == result.files[1:]
    last = msgspec.structs.replace(result, evaluation=msgspec.structs.replace(result.evaluation, against="last"))
    assert failed_by_rounding(last) == ()


def test_a_file_that_is_not_what_its_manifest_says_has_failed() -> None:
    passes = msgspec.structs.replace(PASSES, unlike_manifest="It is not.")
    not_run = msgspec.structs.replace(NOT_RUN, unlike_manifest="It is not.")
    result = gate(passes, not_run, allow=("coreml",))
    assert [file.verdict for file in result.files] == ["failed", "failed"]
    assert result.files[0].message.startswith("It is not. Top-1 fell")
    assert result.files[1].message == "It is not."


def test_against_another_bundle() -> None:
    against = msgspec.structs.replace(evaluation(FAILS), reference=None, against="last")
    result = judge(against, GatePolicy(max_drop=1))
    assert result.files[0].message.startswith("Top-1 fell 3.1 points against 'last' (90.0 → 86.9, n = 10000")
    assert result.message == "Gate failed at 1.0 points of top-1 against 'last': 1 failed."
