"""Selections of one position of an axis, as slices and reshapes.

::

    x[:, i]                      →  slice → reshape
    x[:, i] of five axes or more →  reshape [N, K · C, H, W] → slice
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.fx import Node

from pipeline.graphs.arguments import arguments_of
from pipeline.graphs.shapes import shape_of

aten: Any = torch.ops.aten


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


def _select(node: Node) -> nn.Module | None:
    source, axis, index = arguments_of(node, None, 0, 0)
    axis %= source.meta["val"].dim()
    if axis == 0:
        return None
    shape = shape_of(source)
    kind = MergedSelect if len(shape) > 4 and axis < len(shape) - 1 else Select
    return kind(axis, index % shape[axis], shape_of(node)[1:])


UNITS: dict[Any, Callable[[Node], nn.Module | None]] = {aten.select.int: _select}
