"""What is said of a saved network that is worse than it was in training."""

from __future__ import annotations

import pytest

from pipeline.training.batch_norm import OtherStatistics
from pipeline.training.knowledge import about_gap, about_guessing


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (
            OtherStatistics(),
            "Either it computes differently in evaluation mode, or the training had too few steps: try",
        ),
        (OtherStatistics(by_formula=("a.norm",)), "by a formula of its own in 'a.norm'; those lag"),
        (
            OtherStatistics(("x",), ("b", "c")),
            "Instance norms in it ('b', 'c') use each image's own statistics in training, and running ones once saved: "
            "build them with track_running_stats=False, or try more `epochs`",
        ),
    ],
)
def test_the_modules_that_cause_a_gap_are_named(other: OtherStatistics, said: str) -> None:
    warning = about_gap(40, 100, 0.9, 0.99, other)
    assert warning is not None
    assert said in warning


def test_no_gap_no_warning() -> None:
    assert about_gap(88, 100, 0.9, 0.99, OtherStatistics(("x",), ("y",))) is None


def test_images_of_one_class_are_said_to_show_nothing() -> None:
    """No training, however long, is better than the answer that is always right on them."""
    warning = about_guessing(5, [1] * 5, ("cat", "dog"), "val")
    assert warning == (
        "All images of 'val' are of one class, 'dog': accuracy on them does not show whether the network tells classes "
        "apart. Give images of every class."
    )
