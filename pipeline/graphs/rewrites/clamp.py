"""Clamps to bounds that no runtime has an operator for, by ReLU.

::

    clamp(x, l, h)   →   l + max(x − l, 0), then h − max(h − x, 0)

It stays in float in an int8 file: one region between two int8 tensors, whole on the delegate.
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

LARGEST_BOUND = 100
"""Of a clamp written by ReLU: its differences round values near 0 to steps of the bound · 6e-8."""


class Clamp(FloatRegion):
    """``x`` within bounds, by ReLU: LiteRT's delegate leaves MAXIMUM and MINIMUM with a number outside."""

    def __init__(self, low: float | None, high: float | None) -> None:
        super().__init__()
        self.low, self.high = low, high

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Element by element; any shape."""
        if self.low is not None:
            x = torch.relu(x - self.low) + self.low
        if self.high is not None:
            x = self.high - torch.relu(self.high - x)
        return x


def _clamp(node: Node) -> nn.Module | None:
    if not node.meta["val"].is_floating_point():
        return None
    _, low, high = arguments_of(node, None, None, None)
    return _within(low, high)


def _clamp_min(node: Node) -> nn.Module | None:
    return _within(node.args[1], None)


def _clamp_max(node: Node) -> nn.Module | None:
    return _within(None, node.args[1])


def _within(low: Any, high: Any) -> nn.Module | None:
    """Return the operator for the bounds that every runtime has an operator for, in int8 too; others by float ReLUs."""
    bounds = [bound for bound in (low, high) if bound is not None]
    if not all(isinstance(bound, int | float) and abs(bound) <= LARGEST_BOUND for bound in bounds):
        return None
    known: dict[Any, Callable[[], nn.Module]] = {(0, None): nn.ReLU, (0, 6): nn.ReLU6, (-1, 1): nn.Hardtanh}
    if (low, high) in known:
        return known[low, high]()
    return Clamp(*[None if bound is None else float(bound) for bound in (low, high)])


UNITS: dict[Any, Callable[[Node], nn.Module | None]] = {
    aten.clamp.default: _clamp,
    aten.clamp_min.default: _clamp_min,
    aten.clamp_max.default: _clamp_max,
}
