"""Per-class flags: what they find, and how often they cry wolf."""

import numpy as np
import pytest
from scipy.stats import binomtest

from pipeline.evaluation.per_class import blind_spots, images_needed, suspects, worst_classes
from pipeline.evaluation.results import Comparison, Counts
from pipeline.metrics.paired import paired_table

LABELS = tuple("abcdefghij")


def compared(*per_class: Counts) -> Comparison:
    """Only the counts per class are looked at here."""
    both, lost, gained, neither = (sum(column) for column in zip(*per_class, strict=True))
    return Comparison(
        both=both,
        lost=lost,
        gained=gained,
        neither=neither,
        drop_points=0.0,
        interval_points=(0.0, 0.0),
        mcnemar_p=1.0,
        agreement=1.0,
        per_class=per_class,
    )


def test_p_values_are_exact_and_corrected_for_all_classes_with_images() -> None:
    one = compared((50, 30, 5, 15), (70, 20, 1, 9), (90, 0, 0, 10), (0, 0, 0, 0))
    found = suspects({"f": one}, LABELS, 10, 0.05)["f"]
    p = sorted(binomtest(k, n, alternative="greater").pvalue for k, n in ((30, 35), (20, 21)))
    assert [loss.label for loss in found.flagged] == ["a", "b"]  # the worst first: 25 and 19 points
    assert found.flagged[1].holm_p == pytest.approx(3 * p[0])  # of three classes: the fourth has no image
    assert found.flagged[0].holm_p == pytest.approx(max(3 * p[0], 2 * p[1]))
    assert (found.flagged[0].before, found.flagged[0].after, found.flagged[0].points) == (80.0, 55.0, 25.0)


def test_both_conditions_are_needed() -> None:
    significant_but_small = (900, 60, 0, 40)
    large_but_few = (6, 3, 0, 1)
    found = suspects({"f": compared(significant_but_small, large_but_few)}, LABELS, 10, 0.05)["f"]
    assert found.flagged == ()
    assert [loss.label for loss in found.open] == ["b"]


def test_images_needed() -> None:
    """½ᵏ · tests < level, checked beside it and one below."""
    for tests in (1, 10, 40, 4000):
        k = images_needed(tests, 0.05)
        assert tests * 0.5**k < 0.05 <= tests * 0.5 ** (k - 1)
    assert images_needed(10, 0.05) == 8


def test_a_class_is_visible_exactly_if_losing_all_of_it_flags_it() -> None:
    for right in (1, 6, 7, 8, 9, 30):
        for images in (right, 11 * right):
            whole = compared((0, right, 0, images - right), *[(50, 0, 0, 0)] * 9)
            flagged = bool(suspects({"f": whole}, LABELS, 10, 0.05)["f"].flagged)
            before = compared((right, 0, 0, images - right), *[(50, 0, 0, 0)] * 9)
            assert (0 in blind_spots({"f": before}, 10, 0.05)) != flagged, (right, images)


def test_a_class_without_images_is_no_blind_spot() -> None:
    """The gate says of it that it is not covered."""
    assert blind_spots({"f": compared((50, 0, 0, 0), (0, 0, 0, 0), (2, 0, 0, 0))}, 10, 0.05) == [2]


def test_worst_classes() -> None:
    one = compared((9, 1, 0, 0), (5, 5, 0, 0), (10, 0, 0, 0), (0, 0, 0, 0), (8, 2, 0, 0), (0, 3, 0, 7), (9, 0, 1, 0))
    assert worst_classes(one, LABELS) == [("b", 50.0), ("f", 30.0), ("e", 20.0)]
    assert worst_classes(compared((10, 0, 0, 0)), LABELS) == []


@pytest.mark.long
@pytest.mark.parametrize("alike", [True, False])
def test_false_alarms_of_the_whole_family(alike: bool) -> None:
    """3 files × 10 classes × 20 images in which each file wins as often as it loses: flagged anywhere in ≤ 5 %.

    So few images, and so many that disagree, that a loss of more than 10 points is common: the p-values alone hold
    the level. ``alike``: the files answer alike, as .pte and .tflite do.
    """
    chance, rounds, alarms = np.random.default_rng(1979), 4000, 0
    for _ in range(rounds):
        files = {}
        for name in ("a", "b", "c"):
            if not alike or not files:
                reference, file = chance.random((2, 10, 20)) < 0.6
                tables = [paired_table(before, after) for before, after in zip(reference, file, strict=True)]
                counts = [(table.both, table.lost, table.gained, table.neither) for table in tables]
            files[name] = compared(*counts)
        alarms += any(found.flagged for found in suspects(files, LABELS, 10, 0.05).values())
    rate = alarms / rounds
    assert rate <= 0.05 + 3 * (0.05 * 0.95 / rounds) ** 0.5
    assert rate > 0.0005  # the test is not blind


@pytest.mark.long
def test_a_class_that_vanished_is_found() -> None:
    """One of 100 classes with 50 images each, of which the network had 60 % right, in one of four files: always."""
    chance = np.random.default_rng(7)
    for _ in range(50):
        per_class = []
        for index in range(100):
            right = int(chance.binomial(50, 0.6))
            lost, gained = (
                (right, 0) if index == 0 else (int(chance.binomial(right, 0.02)), int(chance.binomial(3, 0.2)))
            )
            gained = min(gained, 50 - right)
            per_class.append((right - lost, lost, gained, 50 - right - gained))
        same = compared(*[(both + lost, 0, gained, neither) for both, lost, gained, neither in per_class])
        files = {"a": compared(*per_class), "b": same, "c": same, "d": same}
        found = suspects(files, [str(index) for index in range(100)], 10, 0.05)
        assert [loss.label for loss in found["a"].flagged] == ["0"]
        assert not any(found[name].flagged for name in "bcd")
