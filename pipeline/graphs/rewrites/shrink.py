"""Softshrink and Hardshrink by ReLU and a comparison.

::

    softshrink(x)   →   max(x − λ, 0) − max(−x − λ, 0)
    hardshrink(x)   →   x · [|x| > λ]

They stay in float in an int8 file: one region between two int8 tensors, whole on the delegate.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.fx import Node

from calibration.float_region import FloatRegion
from pipeline.graphs.arguments import arguments_of

aten: Any = torch.ops.aten


class Softshrink(FloatRegion):
    """``x`` moved towards 0 by λ, and 0 within ±λ."""

    def __init__(self, bound: float) -> None:
        super().__init__()
        self.bound = bound

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Element by element; any shape."""
        above, below = x - self.bound, -x - self.bound
        return torch.relu(above) - torch.relu(below)


class Hardshrink(FloatRegion):
    """``x``, and 0 within ±λ."""

    def __init__(self, bound: float) -> None:
        super().__init__()
        self.bound = bound

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Element by element; any shape."""
        return x * (x.abs() > self.bound).to(x.dtype)


def _softshrink(node: Node) -> nn.Module:
    _, bound = arguments_of(node, None, 0.5)
    return Softshrink(float(bound))


def _hardshrink(node: Node) -> nn.Module:
    _, bound = arguments_of(node, None, 0.5)
    return Hardshrink(float(bound))


UNITS: dict[Any, Callable[[Node], nn.Module | None]] = {
    aten.softshrink.default: _softshrink,
    aten.hardshrink.default: _hardshrink,
}
