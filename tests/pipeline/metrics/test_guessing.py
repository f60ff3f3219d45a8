"""What is said of a network that does not beat a constant answer, or a guess."""

from __future__ import annotations

import pytest

from pipeline.metrics.guessing import about_majority, explained_by_guessing

CLASSES = ("cat", "dog", "eel")


@pytest.mark.parametrize(
    ("share", "said"),
    [(0.6, True), (0.2, True), (0.7, False)],
)
def test_both_numbers_are_said(share: float, said: bool) -> None:
    note = about_majority("The float network", share, [1, 1, 1, 0, 2], CLASSES, "data")
    assert (note is not None) == said
    assert note is None or note.startswith(
        f"The float network is right on {share:.1%} of 'data', which is not better than answering 'dog' to every image "
        "(60.0%): train"
    )


def test_images_of_one_class() -> None:
    note = about_majority("The float network", 1.0, [2, 2], CLASSES, "data")
    assert note is not None
    assert note.startswith("All images of 'data' are of one class, 'eel'")
    assert about_majority("The float network", 1.0, [0, 0], ("cat",), "data") is None


@pytest.mark.parametrize(
    ("correct", "images", "share", "guessed"),
    [
        (30, 100, 0.25, True),
        (45, 100, 0.25, False),
        (3, 3, 0.5, False),  # not even three of three would reject a guess
        (2, 3, 0.5, False),
        (1, 3, 0.5, True),
        (0, 3, 0.25, True),
        (1, 4, 0.25, True),
    ],
)
def test_explained_by_guessing(correct: int, images: int, share: float, guessed: bool) -> None:
    assert explained_by_guessing(correct, images, share) == guessed
