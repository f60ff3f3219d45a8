"""Drift: what a file answers, against the quantized graph that it was lowered from.

A drop says what was lost against the float network; drift says how much of that is no fault of quantization but of the
file: an operator that the converter wrote otherwise, a kernel that rounds otherwise, another file than one thinks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from calibration.dataset.sampling import ClassBalanced
from pipeline.evaluation.results import Drift
from pipeline.metrics.paired import agreement
from pipeline.metrics.sqnr import sqnr_db, storable

MOST_IMAGES = 1000
"""Simulation is slow; so many say enough of a difference that is hardly ever there."""

SEED = 0

ENOUGH_DB, ENOUGH_AGREEMENT = 40.0, 0.99
"""Below either, a file is said to be unlike its own graph. On x86-64 both kinds of file equal it to the bit."""


def drawn(labels: Sequence[int]) -> NDArray[np.int64]:
    """The pictures that files are compared with their graph on: at most 1,000, class-balanced, always the same."""
    return np.asarray(ClassBalanced(labels, SEED).take(min(MOST_IMAGES, len(labels))), np.int64)


def drift(simulated: NDArray[np.float32], logits: NDArray[np.float32], labels: NDArray[np.int64]) -> Drift:
    """Compare logits ``[n, K]`` of the simulation and of the file on the same pictures with these labels ``[n]``."""
    graph_said, file_said = simulated.argmax(axis=1), logits.argmax(axis=1)
    graph_top1, file_top1 = float((graph_said == labels).mean()), float((file_said == labels).mean())
    return Drift(
        images=len(labels),
        sqnr_db=storable(sqnr_db(simulated, logits)),
        agreement=agreement(graph_said, file_said),
        simulated_top1=graph_top1,
        drop_points=100 * (graph_top1 - file_top1),
    )


def is_unlike(measured: Drift) -> bool:
    """Whether a file differs so much from its own graph that its drop says little of the quantization."""
    return measured.sqnr_db < ENOUGH_DB or measured.agreement < ENOUGH_AGREEMENT
