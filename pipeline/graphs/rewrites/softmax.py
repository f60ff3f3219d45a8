"""Softmax over the last axis of matrices, which is the one form that delegates take.

::

    softmax(x [N, C, H, W], 1)       →  permute [N, H, W, C] → reshape [·, C] → softmax → reshape → permute
    softmax(x of five axes or more)  →  reshape [before, K, after] → transpose → softmax → transpose → reshape
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.fx import Node

from pipeline.graphs.arguments import arguments_of
from pipeline.graphs.shapes import shape_of

aten: Any = torch.ops.aten


class MatrixSoftmax(nn.Module):
    """Softmax over one axis of a tensor, that axis put last and all others made one.

    Over another axis, ExecuTorch leaves it to a kernel between two partitions. Over the last of four, XNNPACK's
    delegate takes it and computes it over channels where a convolution left them last: other numbers, silently.
    """

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[N, …]`` of two to four axes to the same shape."""
        order = [axis for axis in range(x.dim()) if axis != self.axis] + [self.axis]
        turned = x.permute(order)
        rows = turned.reshape(-1, x.shape[self.axis]).softmax(-1).reshape(turned.shape)
        return rows.permute([order.index(axis) for axis in range(x.dim())])


class SliceSoftmax(nn.Module):
    """The same of a tensor of many axes, which no delegate permutes: ``[N · …, K, …]`` as ``[before, K, after]``."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[N, …]`` to the same shape."""
        after = x.shape[self.axis + 1 :].numel()
        turned = x.reshape(-1, x.shape[self.axis], after).transpose(1, 2)
        return turned.softmax(-1).transpose(1, 2).reshape(x.shape)


def _softmax(node: Node) -> nn.Module | None:
    source, axis, dtype = arguments_of(node, None, -1, None)
    rank = len(shape_of(source))
    axis %= rank
    if axis == 0 or dtype not in (None, source.meta["val"].dtype) or (rank < 4 and axis == rank - 1):
        return None
    return MatrixSoftmax(axis) if rank <= 4 else SliceSoftmax(axis)


UNITS: dict[Any, Callable[[Node], nn.Module | None]] = {aten.softmax.int: _softmax}
