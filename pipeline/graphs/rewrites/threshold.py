"""Thresholds by a comparison.

::

    threshold(x, t, v)   →   x · [x > t] + v · [x ≤ t]

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


class Threshold(FloatRegion):
    """``x`` above a threshold, else a value."""

    def __init__(self, threshold: float, value: float) -> None:
        super().__init__()
        self.threshold, self.value = threshold, value

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Element by element; any shape."""
        above = (x > self.threshold).to(x.dtype)
        kept = x * above
        return kept + (1.0 - above) * self.value if self.value else kept


def _threshold(node: Node) -> nn.Module:
    _, threshold, value = arguments_of(node, None, None, None)
    return nn.ReLU() if threshold == value == 0 else Threshold(float(threshold), float(value))


UNITS: dict[Any, Callable[[Node], nn.Module | None]] = {
    aten.threshold.default: _threshold,
}
