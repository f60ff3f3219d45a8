"""Slices with a step, as slices of an axis of their own; slices of everything are dropped.

::

    x[:, :, o::s]  →  reshape [N, C, H / s, s, W] (leading axes merged) → slice → reshape
    x[:, :]        →  x
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.fx import Node

from pipeline.graphs.arguments import arguments_of
from pipeline.graphs.shapes import shape_of

aten: Any = torch.ops.aten

LARGEST_INDEX = 2**63 - 1
"""How a graph writes that a slice has no end."""


class Strided(nn.Module):
    """Every s-th position of an axis: ``x[…, start::step, …]`` with ``count`` of them.

    The axis is cut into rows of ``step``, of which one column is taken. Where the last row would reach over the edge
    its position is joined as a slice of its own.
    """

    def __init__(self, sides: Sequence[int], axis: int, start: int, step: int, count: int) -> None:
        super().__init__()
        self.axis, self.start, self.step, self.count = axis, start, step, count
        self.whole = count if start + step * count <= sides[axis] else count - 1
        self.outer, self.inner = math.prod(sides[1:axis]), math.prod(sides[axis + 1 :])
        self.shape = (*sides[1:axis], self.whole, *sides[axis + 1 :])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[N, …, side, …]`` to ``[N, …, count, …]``."""
        before = (slice(None),) * self.axis
        parts = []
        if self.whole:
            end = self.start + self.step * self.whole
            rows = x if (self.start, end) == (0, x.shape[self.axis]) else x[(*before, slice(self.start, end))]
            rows = rows.reshape(-1, self.outer * self.whole, self.step, self.inner)
            parts.append(rows[:, :, :1].reshape(-1, *self.shape))
        if self.whole < self.count:
            last = self.start + self.step * self.whole
            parts.append(x[(*before, slice(last, last + 1))])
        return torch.cat(parts, self.axis) if len(parts) > 1 else parts[0]


def _slice(node: Node) -> nn.Module | None:
    source, axis, start, end, step = arguments_of(node, None, 0, None, None, 1)
    axis %= source.meta["val"].dim()
    if axis == 0:  # the batch, which may be free
        return nn.Identity() if (start or 0) == 0 and (end is None or end >= LARGEST_INDEX) and step == 1 else None
    side = shape_of(source)[axis]
    chosen = range(side)[start:end:step]
    if len(chosen) == side:
        return nn.Identity()
    return Strided(shape_of(source), axis, chosen.start, step, len(chosen)) if step > 1 and len(chosen) else None


UNITS: dict[Any, Callable[[Node], nn.Module | None]] = {aten.slice.Tensor: _slice}
