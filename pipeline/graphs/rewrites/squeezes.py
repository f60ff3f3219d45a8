"""Axes of one value that come or go, as reshapes.

::

    squeeze(x, axis), unsqueeze(x, axis)   →   reshape

Core ML has no tensor of more than five axes; delegates take reshapes of any.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.fx import Node

from pipeline.graphs.shapes import FREE, sides_of
from pipeline.graphs.units import Reshape

aten: Any = torch.ops.aten


def _reshaped(node: Node) -> nn.Module | None:
    sides = sides_of(node)
    return Reshape(sides) if sides.count(FREE) <= 1 else None


UNITS: dict[Any, Callable[[Node], nn.Module | None]] = {
    aten.squeeze.dim: _reshaped,
    aten.squeeze.dims: _reshaped,
    aten.unsqueeze.default: _reshaped,
}
