"""GELU by tanh, as a sigmoid.

::

    gelu(x, approximate="tanh")   →   x · σ(x · (a + b·x²))

It stays in float in an int8 file: one region between two int8 tensors, whole on the delegate.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.fx import Node

from calibration.float_region import FloatRegion

aten: Any = torch.ops.aten


class GeluTanh(FloatRegion):
    """GELU by tanh: ``x/2 · (1 + tanh(z)) = x · σ(2z)`` with ``z = √(2/π) · (x + 0.044715·x³)``."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Element by element; any shape."""
        linear = 2 * math.sqrt(2 / math.pi)
        return x * torch.sigmoid(x * (x * x * (0.044715 * linear) + linear))


def _gelu(node: Node) -> nn.Module | None:
    """The form by erf is one operator everywhere."""
    return GeluTanh() if node.kwargs.get("approximate") == "tanh" else None


UNITS: dict[Any, Callable[[Node], nn.Module | None]] = {
    aten.gelu.default: _gelu,
}
