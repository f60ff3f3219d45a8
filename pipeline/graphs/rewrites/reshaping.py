"""Operators that move or pick values, written as those that delegates take: slices, reshapes and permutes of few axes.

::

    select(x, 1, 0), unbind, squeeze, unsqueeze  →  slice, reshape
    x[:, ::2]                                     →  reshape [.., H / 2, 2, ..], slice, reshape
    roll(x, 3, 1)                                 →  cat of two slices
    reshape to 6 axes → permute → reshape         →  the same with axes merged that stay neighbours

int8 values pass all of these with their scale. Core ML has no tensor of more than five axes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.fx import Node

from pipeline.graphs.flat import FlatNetwork, arguments_of

aten: Any = torch.ops.aten

MOST_AXES = 5
"""Of a tensor in Core ML."""

INFERRED = -1
"""A side that follows from the others: that of the batch, which may be free."""

Shape = tuple[int, ...]


class Reshape(nn.Module):
    """To another shape, in which the batch's side is −1."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The same values in the same order."""
        return x.reshape(self.shape)


class Picked(nn.Module):
    """A slice of length ``stop − start`` along an axis, in another shape."""

    def __init__(self, axis: int, start: int, stop: int, shape: Shape) -> None:
        super().__init__()
        self.axis, self.start, self.stop, self.shape = axis, start, stop, shape

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Values start … stop − 1 of the axis."""
        return x[(*[slice(None)] * self.axis, slice(self.start, self.stop))].reshape(self.shape)


class Unbound(nn.Module):
    """Every value of an axis as a tensor without that axis."""

    def __init__(self, axis: int, length: int, shape: Shape) -> None:
        super().__init__()
        self.parts = nn.ModuleList(Picked(axis, i, i + 1, shape) for i in range(length))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """As many tensors as the axis is long."""
        return tuple(part(x) for part in self.parts)


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


class Permuted(nn.Module):
    """Reshape, permute, reshape."""

    def __init__(self, shape: Shape, order: Sequence[int], result: Shape) -> None:
        super().__init__()
        self.shape, self.order, self.result = shape, tuple(order), result

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """To the shape ``result``."""
        return x.reshape(self.shape).permute(self.order).reshape(self.result)


def reshape(network: FlatNetwork) -> None:
    """Put these units in the places of all operators that have one."""
    for node in network.nodes:
        if node.target in RESHAPING and not node.kwargs and (unit := RESHAPING[node.target](node)) is not None:
            network.replace(node, unit, node.all_input_nodes[0], str(node.target).split(".")[1])
    network.clean()
    for node in network.nodes:
        if node.target in (aten.reshape.default, aten.flatten.using_ints):
            _merge_axes(network, node)
    network.clean()


def sides_of(node: Any) -> Shape | None:
    """The shape of a node's tensor with −1 for the batch; None where more than one side is free."""
    sides = tuple(side if isinstance(side, int) else INFERRED for side in node.meta["val"].shape)
    return sides if sides.count(INFERRED) <= 1 else None


def _reshaped(node: Node) -> nn.Module | None:
    sides = sides_of(node)
    return None if sides is None else Reshape(sides)


def _select(node: Node) -> nn.Module | None:
    source, axis, index = arguments_of(node)
    before, after = sides_of(source), sides_of(node)
    if before is None or after is None or not isinstance(index, int):
        return None
    axis %= len(before)
    length = before[axis]
    return None if length == INFERRED else Picked(axis, index % length, index % length + 1, after)


def _unbind(node: Node) -> nn.Module | None:
    source, axis = arguments_of(node, None, 0)
    before = sides_of(source)
    if before is None:
        return None
    axis %= len(before)
    return None if before[axis] == INFERRED else Unbound(axis, before[axis], before[:axis] + before[axis + 1 :])


def _every_nth(node: Node) -> nn.Module | None:
    source, axis, start, _, step = arguments_of(node, None, 0, 0, None, 1)
    before, after = sides_of(source), sides_of(node)
    if before is None or after is None or not isinstance(step, int) or step == 1:
        return None
    axis, start = axis % len(before), start or 0
    side = before[axis]
    whole = (
        isinstance(start, int)
        and side != INFERRED
        and side % step == 0
        and 0 <= start < step
        and after[axis] == side // step
    )
    return EveryNth(axis, start, step, after) if whole else None


def _roll(node: Node) -> nn.Module | None:
    source, shifts, axes = arguments_of(node, None, None, [])
    before = sides_of(source)
    if before is None or not axes:
        return None
    starts = []
    for shift, axis in zip(shifts, axes, strict=True):
        side = before[axis % len(before)]
        if side == INFERRED or not isinstance(shift, int):
            return None
        if shift % side:
            starts.append((axis % len(before), -shift % side))
    return Roll(starts)


RESHAPING: dict[Any, Callable[[Node], nn.Module | None]] = {
    aten.squeeze.dim: _reshaped,
    aten.squeeze.dims: _reshaped,
    aten.unsqueeze.default: _reshaped,
    aten.select.int: _select,
    aten.unbind.int: _unbind,
    aten.slice.Tensor: _every_nth,
    aten.roll.default: _roll,
}


def _merge_axes(network: FlatNetwork, end: Node) -> None:
    """Of reshape → permute → reshape through more axes than ``MOST_AXES``."""
    turned = _only(end.args[0], aten.clone.default, aten.contiguous.default)
    if turned.target != aten.permute.default or len(turned.users) != 1 or len(turned.meta["val"].shape) <= MOST_AXES:
        return
    begin = turned.args[0]
    before, result = sides_of(begin), sides_of(end)
    if begin.target != aten.reshape.default or before is None or result is None:
        return
    shape, order = merged(before, turned.args[1])
    network.replace(end, Permuted(shape, order, result), begin.args[0], "permute")


def merged(shape: Sequence[int], order: Sequence[int]) -> tuple[Shape, tuple[int, ...]]:
    """The same permutation of fewer axes: those that follow each other before and after are one.

    ``[N, 2, 4, 2, 4, C]`` by (0, 1, 3, 2, 4, 5) is ``[2 N, 4, 2, 4 C]`` by (0, 2, 1, 3).
    """
    order = [axis % len(shape) for axis in order]
    runs: list[list[int]] = []
    for axis in order:
        if runs and axis == runs[-1][-1] + 1:
            runs[-1].append(axis)
        else:
            runs.append([axis])
    by_place = sorted(runs)
    sides = tuple(_product([shape[axis] for axis in run]) for run in by_place)
    return sides, tuple(by_place.index(run) for run in runs)


def _product(sides: Sequence[int]) -> int:
    found = 1
    for side in sides:
        found = INFERRED if INFERRED in (found, side) else found * side
    return found


def _only(node: Any, *passed: Any) -> Any:
    """What operators that nobody else reads were given."""
    while node.target in passed and len(node.users) == 1:
        node = node.args[0]
    return node
