"""Whether a network answers with logits or with probabilities of its own, so that no second softmax is applied to them.

The outputs on images decide about a softmax, however it is written: they are at least 0 and sum to 1 on every image.
They cannot show a sigmoid for each class, because the logits of some network may lie in 0…1 too; there the network's
operators are the proof.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.export import ExportedProgram
from torch.fx import Node

from edge_apps.runtime.manifest import OutputKind
from pipeline.graphs.bounds import KEEPING, SIGMOIDS, SOFTMAXES, output_bounds, output_node

SUM_TOLERANCE = 1e-3
"""A softmax of 21,843 classes in float32 sums to 1 within 1e-5, one in float16 within 1e-3."""

COARSE_TOLERANCE = 1e-2
"""For a network that visibly ends in softmax: in bfloat16 it sums to 1 within 4e-3."""

EXPLANATIONS: dict[OutputKind, str] = {
    "logits": "The network's outputs are logits: softmax makes them probabilities.",
    "probabilities": "The network's outputs are probabilities (at least 0, with a sum of 1 on every image), as after a "
    "softmax: they are used as they are, without a second softmax.",
    "independent-probabilities": "The network's outputs are one probability for each class, as after a sigmoid: they "
    "are used as they are, without a softmax.",
}
"""One sentence for the user, for each kind."""


def output_kind(program: ExportedProgram, outputs: NDArray[np.floating]) -> OutputKind:
    """Return what a network's outputs are.

    Log-probabilities count as logits: their softmax is the network's own.

    Args:
        program: The network as exported, before anything is rewritten.
        outputs: What it answers on images, ``[N, K]``; the more images, the better the proof.
    """
    last = _last_operator(program)
    tolerance = COARSE_TOLERANCE if last in SOFTMAXES else SUM_TOLERANCE
    if not (np.isfinite(outputs).all() and outputs.min() >= 0 and outputs.max() <= 1 + tolerance):
        return "logits"
    several = outputs.shape[1] > 1  # the one output of a single class says nothing by being 1
    sums = outputs.astype(np.float64).sum(axis=1)
    if several and last not in SIGMOIDS and bool((np.abs(sums - 1) <= tolerance).all()):
        return "probabilities"
    low, high = output_bounds(program)
    return "independent-probabilities" if low >= 0 and high <= 1 else "logits"


def _last_operator(program: ExportedProgram) -> Any:
    """Return the operator that computes the output, seen through those that only move or convert values."""
    node = output_node(program)
    while isinstance(node, Node) and node.target in KEEPING:
        node = node.args[0]
    return node.target if isinstance(node, Node) else None
