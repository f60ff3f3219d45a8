"""A mean over any axes as one over a plane, which is the form that XNNPACK takes.

::

    [N, T, C].mean(1)  →  permute [N, C, T] → reshape [N, C, T, 1] → mean((2, 3), keepdim) → reshape [N, C]
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.fx import Node

from pipeline.graphs.arguments import arguments_of
from pipeline.graphs.flat import FlatNetwork
from pipeline.graphs.shapes import FREE, Shape, several_free, sides_of

aten: Any = torch.ops.aten

PLANE = [2, 3]


class AxesMean(nn.Module):
    """The mean over axes that are no plane."""

    def __init__(self, order: Sequence[int], planes: Shape, kept: Shape, back: Sequence[int], result: Shape) -> None:
        super().__init__()
        self.order, self.planes, self.kept, self.back, self.result = order, planes, kept, back, result

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Averaged axes to the end, as a plane; its mean; the axes that are left as they were."""
        mean = x.permute(*self.order).reshape(self.planes).mean((2, 3), keepdim=True)
        return mean.reshape(self.kept).permute(*self.back).reshape(self.result)


def means_of_planes(network: FlatNetwork) -> None:
    """Write every mean over other axes than the last two of four as a mean over a plane."""
    for node in network.nodes:
        if node.target == aten.mean.dim and not node.kwargs and (unit := _mean(node)) is not None:
            network.replace(node, unit, node.all_input_nodes, "mean")
    network.clean()


def _mean(node: Node) -> AxesMean | None:
    source, over = arguments_of(node)[:2]
    before, result = sides_of(source), sides_of(node)
    if several_free(before, result):
        return None
    axes = sorted(int(axis) % len(before) for axis in over or ())
    if not axes or (len(before) == 4 and axes == PLANE) or any(before[axis] == FREE for axis in axes):
        return None
    left = [axis for axis in range(len(before)) if axis not in axes]
    # The batch goes to the front: kernels know it there.
    first = [axis for axis in left if before[axis] == FREE] + [axis for axis in left if before[axis] != FREE]
    kept = tuple(before[axis] for axis in first)
    pixels = [before[axis] for axis in axes]
    planes = (kept[0], math.prod(kept[1:]), *(pixels if len(pixels) == 2 else (math.prod(pixels), 1)))
    return AxesMean([*first, *axes], planes, kept, [first.index(axis) for axis in left], result)
