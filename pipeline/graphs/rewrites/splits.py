"""Tensors that are split, as slices.

::

    chunk(x, 2, 1), split(x, 8, 1), split(x, [8, 8], 1)   →   x[:, 0:8], x[:, 8:16]
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


class Split(nn.Module):
    """The parts of a tensor as slices: ``split`` itself is left outside XNNPACK."""

    def __init__(self, sizes: tuple[int, ...], axis: int) -> None:
        super().__init__()
        self.sizes, self.axis = sizes, axis

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Parts of these sizes along the axis."""
        whole = (slice(None),) * self.axis
        starts = [sum(self.sizes[:i]) for i in range(len(self.sizes))]
        return tuple(x[(*whole, slice(start, start + size))] for start, size in zip(starts, self.sizes, strict=True))


def _chunk(node: Node) -> nn.Module | None:
    source, count, axis = arguments_of(node, None, None, 0)
    return _parts(source, axis, lambda length: -(-length // count))


def _split(node: Node) -> nn.Module | None:
    source, size, axis = arguments_of(node, None, None, 0)
    return _parts(source, axis, lambda _: size)


def _parts(source: Any, axis: int, size: Callable[[int], int]) -> nn.Module | None:
    shape = shape_of(source)
    axis %= len(shape)
    if axis == 0:
        return None  # the batch, which has no fixed length
    length = shape[axis]
    step = size(length)
    return Split(tuple(min(step, length - start) for start in range(0, length, step)), axis)


def _split_with_sizes(node: Node) -> nn.Module | None:
    source, sizes, axis = arguments_of(node, None, None, 0)
    axis %= len(shape_of(source))
    fixed = axis != 0 and all(isinstance(size, int) for size in sizes)
    return Split(tuple(sizes), axis) if fixed else None


UNITS: dict[Any, Callable[[Node], nn.Module | None]] = {
    aten.chunk.default: _chunk,
    aten.split.Tensor: _split,
    aten.split_with_sizes.default: _split_with_sizes,
}
