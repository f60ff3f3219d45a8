"""Axes in reverse order, as slices of one position each.

::

    flip(x, axis)   →   cat(x[…, n − 1 : n], …, x[…, 0 : 1])
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.fx import Node

from pipeline.graphs.picks import picks
from pipeline.graphs.shapes import shape_of

aten: Any = torch.ops.aten


def _flip(*fixed: int) -> Callable[[Node], nn.Module | None]:
    def unit(node: Node) -> nn.Module | None:
        shape, given = shape_of(node.args[0]), fixed or tuple(node.args[1])  # type: ignore[arg-type]
        axes = [int(str(axis)) % len(shape) for axis in given]
        return picks([(axis, list(range(shape[axis]))[::-1]) for axis in axes])

    return unit


UNITS: dict[Any, Callable[[Node], nn.Module | None]] = {
    aten.flip.default: _flip(),
    aten.fliplr.default: _flip(1),
}
