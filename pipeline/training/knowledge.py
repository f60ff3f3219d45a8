"""Warn of a saved network that knows nothing, or less than it did in training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from scipy.stats import binomtest

from edge_apps.file_names import listed
from pipeline.metrics.guessing import LEVEL, explained_by_guessing
from pipeline.training.batch_norm import OtherStatistics

GAP = 0.05
"""A smaller difference between the share right in training and once saved is not worth a warning."""


def about_guessing(correct: int, labels: Sequence[int], classes: Sequence[str], data: str) -> str | None:
    """Warn where ``correct`` of the images with these ``labels`` are no more than guessing explains; else None.

    Images of one class show nothing, which is said. Two kinds of guessing, each a one-sided binomial test: a class at
    random (one of K), and the commonest class for every image.
    """
    images = len(labels)
    commonest, size = Counter(labels).most_common(1)[0]
    if size == images:
        return (
            f"All images of '{data}' are of one class, '{classes[commonest]}': accuracy on them does not show whether "
            "the network tells classes apart. Give images of every class."
        )
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


def is_gap(correct: int, images: int, in_training: float) -> bool:
    """Return whether ``correct`` of ``images`` are clearly less than the share that was right in training."""
    if correct / images > in_training - GAP:
        return False
    return bool(binomtest(correct, images, in_training, "less").pvalue <= LEVEL)


def about_gap(
    correct: int, images: int, in_training: float, ema: float, other: OtherStatistics | None = None
) -> str | None:
    """Warn where the saved network is clearly worse than the last epoch of training was; else None.

    ``correct`` of ``images`` training images are right once saved, the share ``in_training`` was right in the last
    epoch: on augmented images, with dropout, and while it still learnt, so usually the lower of the two.
    ``other`` are the modules that may be the cause.
    """
    if not is_gap(correct, images, in_training):
        return None
    averaging = ", or `ema=0` to save the last weights instead of their moving average" if ema else ""
    cause = _cause(other or OtherStatistics())
    return (
        f"The saved network is right on {correct / images:.1%} of the training images; in the last epoch of training it"
        f" was right on {in_training:.1%}. {cause} try more `epochs`, a smaller `batch_size`{averaging}."
    )


def _cause(other: OtherStatistics) -> str:
    """Why a saved network may be worse, up to what may help apart from changing the network."""
    if other.of_instances:
        return (
            f"Instance norms in it ({listed(other.of_instances)}) use each image's own statistics in training, and "
            "running ones once saved: build them with track_running_stats=False, or"
        )
    if other.by_formula:
        return (
            f"It keeps running statistics by a formula of its own in {listed(other.by_formula)}; those lag behind the "
            "weights and are not re-estimated before saving: call torch.nn.functional.batch_norm there, or"
        )
    return "Either it computes differently in evaluation mode, or the training had too few steps:"
