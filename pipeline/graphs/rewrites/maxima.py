"""Largest and smallest values along an axis, without their positions.

::

    max(x, axis)[0]   →   amax(x, axis)

Where the positions are read, the operator stays.
"""

from __future__ import annotations

from typing import Any

import torch

from pipeline.graphs.arguments import arguments_of
from pipeline.graphs.flat import FlatNetwork, reads_first_result_only

aten: Any = torch.ops.aten

REDUCTIONS = {aten.max.dim: aten.amax.default, aten.min.dim: aten.amin.default}


def plain_maxima(network: FlatNetwork) -> None:
    """Replace ``max`` and ``min`` of which only the values are read.

    XNNPACK takes ``max`` over any axis, and fails over others than H and W.
    """
    for node in network.nodes:
        if node.target in REDUCTIONS and reads_first_result_only(node):
            source, axis, keep = arguments_of(node, None, None, False)
            network.replace_first_result(node, REDUCTIONS[node.target], (source, [axis], bool(keep)))
    network.clean()
