"""Whether a network is right more often than guessing would be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

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


def about_majority(subject: str, share: float, labels: Sequence[int], classes: Sequence[str], data: str) -> str | None:
    """Say so where the ``share`` of images that ``subject`` gets right is no more than one answer would; else None.

    ``labels`` are those of the images, indices into ``classes``.
    """
    commonest, size = Counter(labels).most_common(1)[0]
    name, images = classes[commonest], len(labels)
    if len(classes) == 1:
        return None
    if size == images:
        return (
            f"All images of '{data}' are of one class, '{name}': it says nothing about other classes, and "
            f"whatever answers '{name}' to every image is always right."
        )
    if share > size / images:
        return None
    return (
        f"{subject} is right on {share:.1%} of '{data}', which is not better than answering '{name}' to every "
        f"image ({size / images:.1%}): train the network longer or on more images before its files are judged."
    )
