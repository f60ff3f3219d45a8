"""Adaptive maximum pooling whose windows are all of one size, as maximum pooling; in one dimension alike.

::

    adaptive_max_pool2d(x [N, C, 8, 8], (4, 4))   →   max_pool2d(x, kernel 2, stride 2)
"""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node

from pipeline.graphs.arguments import arguments_of
from pipeline.graphs.flat import FlatNetwork, reads_first_result_only
from pipeline.graphs.shapes import shape_of

aten: Any = torch.ops.aten

ADAPTIVE = {
    aten.adaptive_max_pool1d.default: aten.max_pool1d.default,
    aten.adaptive_max_pool2d.default: aten.max_pool2d.default,
}


def plain_adaptive_maxima(network: FlatNetwork) -> None:
    """Replace adaptive maximum pooling of which only the values are read."""
    for node in network.nodes:
        if node.target in ADAPTIVE and reads_first_result_only(node) and (window := _window(node)):
            network.replace_first_result(node, ADAPTIVE[node.target], (node.args[0], window, window))
    network.clean()


def _window(node: Node) -> list[int] | None:
    source, size = arguments_of(node, None, None)
    sides = shape_of(source)[2:]
    bins = [side if wanted is None else int(wanted) for side, wanted in zip(sides, size, strict=True)]
    if any(side % count for side, count in zip(sides, bins, strict=True)):
        return None
    return [side // count for side, count in zip(sides, bins, strict=True)]
