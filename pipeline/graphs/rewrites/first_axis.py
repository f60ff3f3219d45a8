"""Selections, slices and rolls along the first axis, in networks that are captured with batches of one.

::

    x[i]          →  slice → reshape
    x[o::s]       →  reshape [N / s, s, …] → slice → reshape
    roll(x, 3, 0) →  cat of two slices

Rewrites of the other axes come before; they leave the first one alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.fx import Node

from pipeline.graphs.arguments import arguments_of
from pipeline.graphs.shapes import FREE, Shape, several_free, sides_of
from pipeline.graphs.units import Picked, Reshape

aten: Any = torch.ops.aten


class EveryNth(nn.Module):
    """``x[…, start::step, …]`` of a side that is a multiple of ``step``: as a slice of its own axis."""

    def __init__(self, axis: int, start: int, step: int, shape: Shape) -> None:
        super().__init__()
        apart = (*shape[:axis], shape[axis], step, *shape[axis + 1 :])
        self.apart, self.picked = Reshape(apart), Picked(axis + 1, start, start + 1, shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """To ``side / step`` values along the axis."""
        picked: torch.Tensor = self.picked(self.apart(x))
        return picked


class Roll(nn.Module):
    """Values moved along axes, those that leave at the end coming in at the front."""

    def __init__(self, starts: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self.starts = starts

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """To the same shape; ``starts`` are axes and which value comes to stand first there."""
        for axis, start in self.starts:
            before = (slice(None),) * axis
            x = torch.cat([x[(*before, slice(start, x.shape[axis]))], x[(*before, slice(0, start))]], axis)
        return x


def _select(node: Node) -> nn.Module | None:
    source, axis, index = arguments_of(node)
    before, after = sides_of(source), sides_of(node)
    if several_free(before, after) or not isinstance(index, int):
        return None
    axis %= len(before)
    length = before[axis]
    return None if length == FREE else Picked(axis, index % length, index % length + 1, after)


def _every_nth(node: Node) -> nn.Module | None:
    source, axis, start, _, step = arguments_of(node, None, 0, 0, None, 1)
    before, after = sides_of(source), sides_of(node)
    if several_free(before, after) or not isinstance(step, int) or step == 1:
        return None
    axis, start = axis % len(before), start or 0
    side = before[axis]
    whole = (
        isinstance(start, int)
        and side != FREE
        and side % step == 0
        and 0 <= start < step
        and after[axis] == side // step
    )
    return EveryNth(axis, start, step, after) if whole else None


def _roll(node: Node) -> nn.Module | None:
    source, shifts, axes = arguments_of(node, None, None, [])
    before = sides_of(source)
    if several_free(before) or not axes:
        return None
    starts = []
    for shift, axis in zip(shifts, axes, strict=True):
        side = before[axis % len(before)]
        if side == FREE or not isinstance(shift, int):
            return None
        if shift % side:
            starts.append((axis % len(before), -shift % side))
    return Roll(starts)


UNITS: dict[Any, Callable[[Node], nn.Module | None]] = {
    aten.select.int: _select,
    aten.slice.Tensor: _every_nth,
    aten.roll.default: _roll,
}
