"""Smoothing against sums by hand."""

import math

import numpy as np
import pytest

from edge_apps.camera.inference.smoothing import Exponential, Majority, Unsmoothed, parse_smoothing
from edge_apps.errors import BadInput

A, B = np.array([0.9, 0.1]), np.array([0.2, 0.8])
SECOND = 10**9


def test_exponential_is_the_weighted_mean_of_all_frames() -> None:
    """Frames at 0, 0.3 and 1.0 s, time constant 0.5 s: each frame's weight is what is left of it."""
    smoother = Exponential(0.5)
    assert smoother.add(A, 0).tolist() == A.tolist()
    smoother.add(B, 3 * SECOND // 10)
    found = smoother.add(A, SECOND)
    first, second = math.exp(-1.0 / 0.5), math.exp(-0.7 / 0.5) * (1 - math.exp(-0.3 / 0.5))
    assert found == pytest.approx((first + (1 - first - second)) * A + second * B)
    assert found.sum() == pytest.approx(1)


def test_exponential_does_not_depend_on_the_frame_rate() -> None:
    slow, fast = Exponential(0.5), Exponential(0.5)
    slow.add(A, 0)
    fast.add(A, 0)
    for step in range(1, 101):
        often = fast.add(B, step * SECOND // 100)
    assert slow.add(B, SECOND) == pytest.approx(often)


def test_a_long_pause_forgets() -> None:
    smoother = Exponential(0.5)
    smoother.add(A, 0)
    assert smoother.add(B, 60 * SECOND) == pytest.approx(B)


def test_a_clock_that_stands_still_changes_nothing() -> None:
    smoother = Exponential(0.5)
    smoother.add(A, 5)
    assert smoother.add(B, 5) == pytest.approx(A)


def test_majority_counts_the_last_frames() -> None:
    smoother = Majority(3)
    assert smoother.add(A, 0).tolist() == [1.0, 0.0]
    assert smoother.add(B, 1).tolist() == [0.5, 0.5]
    assert smoother.add(B, 2) == pytest.approx([1 / 3, 2 / 3])
    assert smoother.add(B, 3).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("smoother", [Exponential(0.5), Majority(3)], ids=["exponential", "majority"])
def test_reset_forgets(smoother: Exponential | Majority) -> None:
    smoother.add(A, 0)
    smoother.reset()
    assert smoother.add(B, 1).argmax() == 1
    assert smoother.add(B, 2) == pytest.approx(smoother.add(B, 3))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (None, Unsmoothed),
        ("exponential", Exponential),
        ("exponential:2.5", Exponential),
        ("majority", Majority),
        ("majority:7", Majority),
    ],
)
def test_names(text: str | None, kind: type) -> None:
    make = parse_smoothing(text)
    assert isinstance(make(), kind)
    assert make() is not make()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("majorty", "Did you mean 'majority'? Known: exponential[:SECONDS], majority[:FRAMES]."),
        ("", "Unknown smoothing ''"),
        ("majority:1.5", "'1.5' is no whole number. Write majority:FRAMES, as in majority:15."),
        ("majority:1", "1 is not within 2 and 10000"),
        ("majority:", "'' is no whole number"),
        ("exponential:nan", "nan is not within 0.01 and 60"),
        ("exponential:-1", "-1 is not within"),
        ("exponential:x", "'x' is no number"),
    ],
)
def test_what_makes_no_sense(text: str, words: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_smoothing(text)
    assert words in str(caught.value)


def test_seconds_have_no_meaning_for_pictures_without_times() -> None:
    with pytest.raises(BadInput, match="a folder's pictures have none: use majority:FRAMES"):
        parse_smoothing("exponential", has_times=False)
    assert isinstance(parse_smoothing("majority", has_times=False)(), Majority)
