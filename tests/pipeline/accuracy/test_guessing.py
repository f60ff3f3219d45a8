"""Few right answers are guesses; of few images all right ones are not."""

from __future__ import annotations

import pytest

from pipeline.accuracy.guessing import explained_by_guessing


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
