"""Operators that pick positions of an axis by a list known in advance, as slices and concatenations.

::

    pad (reflect, replicate, circular), roll, flip, repeat, index by a constant  →  slice, slice, … → cat
    pad (constant v)                                                             →  pad with 0 → + border of v

Runtimes leave the left side outside their delegates, ExecuTorch with an index computed at run time. Slices and
concatenations run inside, and in int8 they copy bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.fx import Node
from torch.nn import functional

from pipeline.graphs.arguments import shape_of, with_defaults
from pipeline.graphs.flat import FlatNetwork

aten: Any = torch.ops.aten

MOST_RUNS = 64
"""A list of more runs of neighbours stays one operator: each run is a kernel call."""


MOST_JOINED = 4
"""LiteRT's delegate takes no concatenation of more tensors."""


class Pick(nn.Module):
    """``x`` at these positions of an axis, in this order: runs of neighbours as slices, joined."""

    def __init__(self, axis: int, positions: Sequence[int]) -> None:
        super().__init__()
        self.axis, self.runs = axis, list(runs(positions))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[…, n, …]`` to ``[…, len(positions), …]``."""
        before, whole = (slice(None),) * self.axis, (0, x.shape[self.axis])
        parts = [x if run == whole else x[(*before, slice(*run))] for run in self.runs]
        while len(parts) > 1:
            parts = [_joined(parts[i : i + MOST_JOINED], self.axis) for i in range(0, len(parts), MOST_JOINED)]
        return parts[0]


class Border(nn.Module):
    """A border of one value, by padding with zeros and adding: a delegate takes no other padding in int8.

    It is added in float, as all constants are, so that an int8 file finds a range that holds the value. ``sides`` are
    those of the result without the batch; ``widths`` are pairs from the last axis on, none negative.
    """

    border: torch.Tensor

    def __init__(self, widths: Sequence[int], value: float, sides: Sequence[int]) -> None:
        super().__init__()
        self.widths = list(widths)
        padded = len(widths) // 2
        inside = [side - sum(widths[2 * i : 2 * i + 2]) for i, side in enumerate(reversed(sides[-padded:]))]
        hole = torch.zeros(*reversed(inside))
        border = functional.pad(hole, self.widths, value=value)
        self.register_buffer("border", border.view(*[1] * (len(sides) + 1 - padded), *border.shape), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[N, …]`` to ``[N, *sides]``."""
        return functional.pad(x, self.widths) + self.border


class _Zeros(nn.Module):
    """A border of zeros."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.widths = list(widths)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[N, …]``, larger by the widths."""
        return functional.pad(x, self.widths)


def _joined(parts: list[torch.Tensor], axis: int) -> torch.Tensor:
    return torch.cat(parts, axis) if len(parts) > 1 else parts[0]


def runs(positions: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield start and end of each stretch of positions that follow one another: 1, 0, 1, 2 is (1, 2), (0, 3)."""
    start = 0
    for i in range(1, len(positions) + 1):
        if i == len(positions) or positions[i] != positions[i - 1] + 1:
            yield positions[start], positions[i - 1] + 1
            start = i


def _pad(node: Node) -> nn.Module | None:
    source, widths, mode, value = with_defaults(node, None, None, "constant", None)
    if mode == "constant":
        return _constant_pad(source, widths, float(value or 0))
    positions = {"reflect": _reflected, "replicate": _repeated, "circular": _wrapped}[mode]
    return _per_axis(source, widths, positions)


def _constant_pad_nd(node: Node) -> nn.Module | None:
    source, widths, value = with_defaults(node, None, None, 0)
    return _constant_pad(source, widths, float(value))


def _constant_pad(source: Any, widths: Sequence[int], value: float) -> nn.Module | None:
    """Zeros are well as they are; so is −∞ in front of a maximum, which becomes the least of the int8 range."""
    if (value == 0 and min(widths, default=0) >= 0) or not math.isfinite(value):
        return None
    cropped = _per_axis(source, [min(0, width) for width in widths], _cropped)
    grown = [max(0, width) for width in widths]
    shape = list(shape_of(source))
    if cropped is None or len(widths) // 2 >= len(shape):
        return None
    for i in range(len(widths) // 2):
        shape[-1 - i] += widths[2 * i] + widths[2 * i + 1]
    if value == 0:
        border: nn.Module = _Zeros(grown) if any(grown) else nn.Identity()
    else:
        border = Border(grown, value, shape[1:])
    return nn.Sequential(cropped, border)


def _named_pad(positions: Callable[[int, int, int], list[int]]) -> Callable[[Node], nn.Module | None]:
    """``reflection_pad2d`` and its like, which take no mode."""
    return lambda node: _per_axis(node.args[0], node.args[1], positions)


def _per_axis(source: Any, widths: Any, positions: Callable[[int, int, int], list[int]]) -> nn.Module | None:
    """One pick for each padded axis, the last axis first, as widths are given."""
    shape = shape_of(source)
    picks = []
    for i in range(len(widths) // 2):
        axis = len(shape) - 1 - i
        before, after = widths[2 * i : 2 * i + 2]
        if (before, after) != (0, 0):
            picks.append((axis, positions(shape[axis], before, after)))
    return _picks(picks)


def _picks(picks: Sequence[tuple[int, list[int]]]) -> nn.Module | None:
    """These one after the other; None where one is of the batch, or of too many pieces."""
    if any(axis == 0 or len(list(runs(positions))) > MOST_RUNS for axis, positions in picks):
        return None
    units = [Pick(axis, positions) for axis, positions in picks]
    return units[0] if len(units) == 1 else nn.Sequential(*units)


def _reflected(side: int, before: int, after: int) -> list[int]:
    return [side - 1 - abs(side - 1 - abs(i)) for i in range(-before, side + after)]


def _repeated(side: int, before: int, after: int) -> list[int]:
    return [min(max(i, 0), side - 1) for i in range(-before, side + after)]


def _wrapped(side: int, before: int, after: int) -> list[int]:
    cropped = _cropped(side, min(before, 0), min(after, 0))  # torch crops first, and wraps what is left
    return [cropped[i % len(cropped)] for i in range(-max(before, 0), len(cropped) + max(after, 0))]


def _cropped(side: int, before: int, after: int) -> list[int]:
    return list(range(-before, side + after))


def _roll(node: Node) -> nn.Module | None:
    source, shifts, axes = with_defaults(node, None, None, [])
    shape = shape_of(source)
    shifts = [shifts] if isinstance(shifts, int) else shifts
    if not axes:
        return None  # of the flattened tensor
    turned = [(axis % len(shape), shift) for axis, shift in zip(axes, shifts, strict=True)]
    return _picks([(axis, [(i - shift) % shape[axis] for i in range(shape[axis])]) for axis, shift in turned])


def _flip(*fixed: int) -> Callable[[Node], nn.Module | None]:
    def unit(node: Node) -> nn.Module | None:
        shape, given = shape_of(node.args[0]), fixed or tuple(node.args[1])  # type: ignore[arg-type]
        axes = [int(str(axis)) % len(shape) for axis in given]
        return _picks([(axis, list(range(shape[axis]))[::-1]) for axis in axes])

    return unit


def _repeat(node: Node) -> nn.Module | None:
    source, counts = with_defaults(node, None, None)
    shape = shape_of(source)
    if len(counts) != len(shape) or not all(isinstance(count, int) and count > 0 for count in counts):
        return None
    return _picks([(axis, [*range(shape[axis])] * count) for axis, count in enumerate(counts) if count > 1])


def _repeat_interleave(node: Node) -> nn.Module | None:
    source, count, axis = with_defaults(node, None, None, None)
    if axis is None:
        return None  # of the flattened tensor
    axis %= len(shape_of(source))
    return _picks([(axis, [i for i in range(shape_of(source)[axis]) for _ in range(count)])])


UNITS: dict[Any, Callable[[Node], nn.Module | None]] = {
    aten.pad.default: _pad,
    aten.constant_pad_nd.default: _constant_pad_nd,
    **dict.fromkeys(
        (aten.reflection_pad1d.default, aten.reflection_pad2d.default, aten.reflection_pad3d.default),
        _named_pad(_reflected),
    ),
    **dict.fromkeys(
        (aten.replication_pad1d.default, aten.replication_pad2d.default, aten.replication_pad3d.default),
        _named_pad(_repeated),
    ),
    aten.roll.default: _roll,
    aten.flip.default: _flip(),
    aten.fliplr.default: _flip(1),
    aten.repeat.default: _repeat,
    aten.tile.default: _repeat,
    aten.repeat_interleave.self_int: _repeat_interleave,
}


def pick_by_constants(network: FlatNetwork) -> None:
    """Replace ``index_select``, and an index of one axis, by a pick where the positions are a constant."""
    for node in network.nodes:
        if (found := _constant_positions(network, node)) is None:
            continue
        axis, positions = found
        side = shape_of(node.args[0])[axis]
        if (unit := _picks([(axis, [int(i) % side for i in positions])])) is not None:
            network.replace(node, unit, node.all_input_nodes[0], "pick")
    network.clean()


def _constant_positions(network: FlatNetwork, node: Node) -> tuple[int, list[int]] | None:
    axis: Any
    index: Any
    if node.target == aten.index_select.default:
        axis, index = node.args[1:3]
    elif node.target == aten.index.Tensor:
        indices: Any = node.args[1]
        given = [(axis, index) for axis, index in enumerate(indices) if index is not None]
        if len(given) != 1:
            return None
        axis, index = given[0]
    else:
        return None
    positions = network.constant(index)
    if positions is None or positions.dim() != 1 or positions.is_floating_point() or positions.dtype == torch.bool:
        return None
    return axis % len(shape_of(node.args[0])), positions.tolist()
