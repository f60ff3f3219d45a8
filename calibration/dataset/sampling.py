"""Which images calibrate: draws that are seeded, and that can go on when a picture has to be left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from calibration.errors import BadCalibration


class Draw(Protocol):
    """A seeded order of pictures: the first ones, then one more for each that is left out."""

    def take(self, count: int) -> list[int]:
        """The first ``count`` indices, ascending."""

    def another(self, instead_of: int) -> int | None:
        """The next index, in the place of one that was drawn before; None where no picture is left."""


class ClassBalanced:
    """Class counts as equal as the data allows.

    Classes take turns, in an order drawn anew each round; a class that has run out is passed over. In the place of a
    picture comes one of the class that then has the fewest, which is its own class while that has any left.
    """

    def __init__(self, labels: Sequence[int], seed: int) -> None:
        self._labels = labels
        self._chance = np.random.default_rng(seed)
        label_of = np.asarray(labels)
        self._waiting = {
            int(label): list(self._chance.permutation(np.flatnonzero(label_of == label)))
            for label in np.unique(label_of)
        }
        self._drawn = dict.fromkeys(self._waiting, 0)

    def take(self, count: int) -> list[int]:
        """Distinct indices, ascending; ``BadCalibration`` where there are fewer than ``count``."""
        check_enough(len(self._labels), count)
        chosen: list[int] = []
        while len(chosen) < count:
            waiting = [label for label, queue in self._waiting.items() if queue]
            for turn in self._chance.permutation(len(waiting)):
                if len(chosen) < count:
                    chosen.append(self._next_of(waiting[turn]))
        return sorted(chosen)

    def another(self, instead_of: int) -> int | None:
        """Of the class with the fewest pictures so far; among equals, the class of the picture left out."""
        own = self._labels[instead_of]
        self._drawn[own] -= 1
        waiting = [label for label, queue in self._waiting.items() if queue]
        if not waiting:
            return None
        return self._next_of(min(waiting, key=lambda label: (self._drawn[label], label != own)))

    def _next_of(self, label: int) -> int:
        self._drawn[label] += 1
        return int(self._waiting[label].pop())


class FarthestFirst:
    """k-centre greedy: each next picture is the one farthest from all those before it.

    Distance is Euclidean, between feature vectors; the first picture is drawn by the seed. Any beginning of the order
    covers the pool within at most twice the smallest radius with which that many pictures could (Gonzalez,
    "Clustering to minimize the maximum intercluster distance", Theoretical Computer Science 38, 1985). As a way of
    choosing images: Sener and Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set Approach",
    ICLR 2018, section 4, algorithm 1. Unlike there, nothing is chosen to begin with, and their mixed-integer
    refinement (algorithm 2) is not done.

    Classes play no part. What comes in the place of a picture is the next in the order; the place of the one left out
    counts as covered.
    """

    def __init__(self, pool: Sequence[int], features: NDArray[np.float32], seed: int) -> None:
        """``features[i]`` belongs to ``pool[i]``; ``BadCalibration`` where one is no number."""
        if features.ndim != 2 or len(features) != len(pool):
            raise ValueError(f"features are {features.shape}; expected [{len(pool)}, D]")
        if not np.isfinite(features).all():
            raise BadCalibration(
                "The network's features are no finite numbers for some calibration images, so that their distances "
                "mean nothing: check the checkpoint, or draw with `choice=class-balanced`."
            )
        # In a drawn order, so that the first is drawn, and of equally far ones the first is.
        order = np.random.default_rng(seed).permutation(len(pool))
        self._pool = np.asarray(pool)[order]
        # Centred, so that |x − c|² = |x|² + |c|² − 2 x·c keeps its digits.
        self._points = (features - features.mean(0))[order]
        self._squares = np.einsum("nd,nd->n", self._points, self._points)
        self._gaps = np.full(len(pool), np.inf)  # squared distance to the nearest one drawn; −∞ once drawn

    def take(self, count: int) -> list[int]:
        """The first ``count`` of the order, as ascending indices; ``BadCalibration`` where there are fewer."""
        check_enough(len(self._pool), count)
        return sorted(self._next() for _ in range(count))

    def another(self, instead_of: int) -> int | None:  # noqa: ARG002 the order does not depend on it
        """The next of the order."""
        return self._next() if self._gaps.size and self._gaps.max() > -np.inf else None

    def _next(self) -> int:
        at = int(np.argmax(self._gaps))
        squares = self._squares + self._squares[at] - 2 * (self._points @ self._points[at])
        self._gaps = np.minimum(self._gaps, squares)
        self._gaps[at] = -np.inf
        return int(self._pool[at])


def check_enough(available: int, count: int) -> None:
    """``BadCalibration`` where the data has fewer pictures than are asked for."""
    if count > available:
        raise BadCalibration(
            f"Calibration asks for {count} images but the data has {available}: "
            "give more data, or a smaller `calibration_size`."
        )
