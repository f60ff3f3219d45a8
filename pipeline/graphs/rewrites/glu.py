"""Gated linear units as a product and a sigmoid of two slices.

::

    glu(x)   →   x[…, :size] · σ(x[…, size:])
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


class GatedLinear(nn.Module):
    """``a · σ(b)`` of the two halves of an axis: int8 as a product and a sigmoid are."""

    def __init__(self, axis: int, size: int) -> None:
        super().__init__()
        self.axis, self.size = axis, size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[…, 2·size, …]`` to ``[…, size, …]``."""
        before = (slice(None),) * self.axis
        gate = torch.sigmoid(x[(*before, slice(self.size, 2 * self.size))])
        return x[(*before, slice(0, self.size))] * gate


def _glu(node: Node) -> nn.Module | None:
    source, axis = arguments_of(node, None, -1)
    shape = shape_of(source)
    axis %= len(shape)
    return GatedLinear(axis, shape[axis] // 2) if axis else None


UNITS: dict[Any, Callable[[Node], nn.Module | None]] = {
    aten.glu.default: _glu,
}
