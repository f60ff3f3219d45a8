"""Padding with a number other than 0, and padding by negative widths.

::

    pad (constant v)        →  pad with 0 → + border of v
    pad (negative widths)   →  slice

Delegates take no other padding than zeros in int8.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.fx import Node
from torch.nn import functional

from pipeline.graphs.arguments import arguments_of
from pipeline.graphs.picks import cropped, picks_per_axis
from pipeline.graphs.shapes import shape_of

aten: Any = torch.ops.aten


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


def _pad(node: Node) -> nn.Module | None:
    source, widths, mode, value = arguments_of(node, None, None, "constant", None)
    return _constant_pad(source, widths, float(value or 0)) if mode == "constant" else None


def _constant_pad_nd(node: Node) -> nn.Module | None:
    source, widths, value = arguments_of(node, None, None, 0)
    return _constant_pad(source, widths, float(value))


def _constant_pad(source: Any, widths: Sequence[int], value: float) -> nn.Module | None:
    """Zeros are well as they are; so is −∞ in front of a maximum, which becomes the least of the int8 range."""
    if (value == 0 and min(widths, default=0) >= 0) or not math.isfinite(value):
        return None
    inside = picks_per_axis(source, [min(0, width) for width in widths], cropped)
    grown = [max(0, width) for width in widths]
    shape = list(shape_of(source))
    if inside is None or len(widths) // 2 >= len(shape):
        return None
    for i in range(len(widths) // 2):
        shape[-1 - i] += widths[2 * i] + widths[2 * i + 1]
    if value == 0:
        border: nn.Module = _Zeros(grown) if any(grown) else nn.Identity()
    else:
        border = Border(grown, value, shape[1:])
    return nn.Sequential(inside, border)


UNITS: dict[Any, Callable[[Node], nn.Module | None]] = {
    aten.pad.default: _pad,
    aten.constant_pad_nd.default: _constant_pad_nd,
}
