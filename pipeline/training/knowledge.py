"""Warn of a saved network that knows nothing, or less than it did in training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from scipy.stats import binomtest

from pipeline.accuracy.guessing import LEVEL, explained_by_guessing

GAP = 0.05
"""A smaller difference between the share right in training and once saved is not worth a warning."""


def about_guessing(correct: int, labels: Sequence[int], classes: Sequence[str], data: str) -> str | None:
    """Warn where ``correct`` of the images with these ``labels`` are no more than guessing explains; else None.

    Two kinds of guessing, each a one-sided binomial test: a class at random (one of K), and the commonest class for
    every image.
    """
    images = len(labels)
    commonest, size = Counter(labels).most_common(1)[0]
    for share, meaning in (
        (1 / len(classes), f"guessing one of {len(classes)} classes ({1 / len(classes):.1%})"),
        (size / images, f"answering '{classes[commonest]}' for every image ({size / images:.1%})"),
    ):
        if explained_by_guessing(correct, images, share):
            return (
                f"The saved network is right on {correct} of {images:,} images of '{data}' ({correct / images:.1%}), "
                f"which is not clearly better than {meaning}: train longer, or with more images."
            )
    return None


def about_gap(correct: int, images: int, in_training: float, ema: float) -> str | None:
    """Warn where the saved network is clearly worse than the last epoch of training was; else None.

    ``correct`` of ``images`` training images are right once saved, the share ``in_training`` was right in the last
    epoch: on augmented images, with dropout, and while it still learnt, so usually the lower of the two.
    """
    if correct / images > in_training - GAP or binomtest(correct, images, in_training, "less").pvalue > LEVEL:
        return None
    averaging = ", or --ema 0 to save the last weights instead of their moving average" if ema else ""
    return (
        f"The saved network is right on {correct / images:.1%} of the training images; in the last epoch of training it"
        f" was right on {in_training:.1%}. Either it computes differently in evaluation mode, or the training had too"
        f" few steps: try more --epochs, a smaller --batch-size{averaging}."
    )
