"""Padding by values of the tensor itself, as slices and concatenations.

::

    pad (reflect, replicate, circular)  →  slice, slice, … → cat

Runtimes leave the left side outside their delegates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.fx import Node

from pipeline.graphs.arguments import arguments_of
from pipeline.graphs.picks import cropped, picks_per_axis

aten: Any = torch.ops.aten


def _pad(node: Node) -> nn.Module | None:
    source, widths, mode = arguments_of(node, None, None, "constant")
    return picks_per_axis(source, widths, MODES[mode]) if mode in MODES else None


def _named_pad(positions: Callable[[int, int, int], list[int]]) -> Callable[[Node], nn.Module | None]:
    """``reflection_pad2d`` and its like, which take no mode."""
    return lambda node: picks_per_axis(node.args[0], node.args[1], positions)


def _reflected(side: int, before: int, after: int) -> list[int]:
    return [side - 1 - abs(side - 1 - abs(i)) for i in range(-before, side + after)]


def _repeated(side: int, before: int, after: int) -> list[int]:
    return [min(max(i, 0), side - 1) for i in range(-before, side + after)]


def _wrapped(side: int, before: int, after: int) -> list[int]:
    kept = cropped(side, min(before, 0), min(after, 0))  # torch crops first, and wraps what is left
    return [kept[i % len(kept)] for i in range(-max(before, 0), len(kept) + max(after, 0))]


MODES = {"reflect": _reflected, "replicate": _repeated, "circular": _wrapped}

UNITS: dict[Any, Callable[[Node], nn.Module | None]] = {
    aten.pad.default: _pad,
    **dict.fromkeys(
        (aten.reflection_pad1d.default, aten.reflection_pad2d.default, aten.reflection_pad3d.default),
        _named_pad(_reflected),
    ),
    **dict.fromkeys(
        (aten.replication_pad1d.default, aten.replication_pad2d.default, aten.replication_pad3d.default),
        _named_pad(_repeated),
    ),
}
