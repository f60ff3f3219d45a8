"""Views that a delegate does not take, as slices and reshapes, which all of them take.

::

    x[:, i]        → slice → reshape, or [N, K, C, H, W] → reshape [N, K · C, H, W] → slice
    x[:, None]     → reshape
    x[:, :, o::s]  → reshape [N, C, H / s, s, W] (leading axes merged) → slice → reshape
    x[:, :], alias → x
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.fx import Node

from pipeline.graphs.arguments import shape_of, with_defaults

aten: Any = torch.ops.aten

LARGEST_INDEX = 2**63 - 1
"""How a graph writes that a slice has no end."""


class Reshape(nn.Module):
    """Another shape of each image."""

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[N, …]`` to ``[N, *shape]``."""
        return x.reshape(-1, *self.shape)


class Select(nn.Module):
    """``x`` at one position of an axis, without that axis."""

    def __init__(self, axis: int, index: int, shape: Sequence[int]) -> None:
        super().__init__()
        self.axis, self.index, self.shape = axis, index, tuple(shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[N, …]`` to ``[N, *shape]``."""
        before = (slice(None),) * self.axis
        return x[(*before, slice(self.index, self.index + 1))].reshape(-1, *self.shape)


class MergedSelect(Select):
    """The same of a tensor of many axes, which was a map of fewer: a slice of that map.

    Cut first and reshaped then, LiteRT's converter would move a product of two of them in front of the reshapes, and
    fail by their int8 scales.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[N, …]`` to ``[N, *shape]``; the axis is not the last."""
        side, following = x.shape[self.axis : self.axis + 2]
        merged = x.reshape(-1, *x.shape[1 : self.axis], side * following, *x.shape[self.axis + 2 :])
        before = (slice(None),) * self.axis
        return merged[(*before, slice(self.index * following, (self.index + 1) * following))]


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
    source, axis, start, end, step = with_defaults(node, None, 0, None, None, 1)
    axis %= source.meta["val"].dim()
    if axis == 0:  # the batch, which may be free
        return nn.Identity() if (start or 0) == 0 and (end is None or end >= LARGEST_INDEX) and step == 1 else None
    side = shape_of(source)[axis]
    chosen = range(side)[start:end:step]
    if len(chosen) == side:
        return nn.Identity()
    return Strided(shape_of(source), axis, chosen.start, step, len(chosen)) if step > 1 and len(chosen) else None


def _select(node: Node) -> nn.Module | None:
    source, axis, index = with_defaults(node, None, 0, 0)
    axis %= source.meta["val"].dim()
    if axis == 0:
        return None
    shape = shape_of(source)
    kind = MergedSelect if len(shape) > 4 and axis < len(shape) - 1 else Select
    return kind(axis, index % shape[axis], shape_of(node)[1:])


def _unsqueeze(node: Node) -> nn.Module | None:
    """A new last axis is well as it is; before the batch nothing can come."""
    source, axis = with_defaults(node, None, None)
    rank = source.meta["val"].dim() + 1
    return Reshape(shape_of(node)[1:]) if axis % rank not in (0, rank - 1) else None


UNITS: dict[Any, Callable[[Node], nn.Module | None]] = {
    aten.alias.default: lambda _node: nn.Identity(),
    aten.slice.Tensor: _slice,
    aten.select.int: _select,
    aten.unsqueeze.default: _unsqueeze,
}
