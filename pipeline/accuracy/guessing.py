"""Whether a network is right more often than guessing would be."""

from __future__ import annotations

from scipy.stats import binomtest

LEVEL = 0.01
"""Right answers are beyond guessing where guessing gives as many with a probability below this."""


def explained_by_guessing(correct: int, images: int, share: float) -> bool:
    """Return whether a guess that is right with probability ``share`` is right on ``correct`` of ``images`` or more.

    By a one-sided binomial test. Of so few images that even all of them right would prove nothing, only as many as
    guessing gives on average are explained by it.
    """
    if binomtest(images, images, share, alternative="greater").pvalue > LEVEL:
        return correct <= share * images
    return bool(binomtest(correct, images, share, alternative="greater").pvalue > LEVEL)
