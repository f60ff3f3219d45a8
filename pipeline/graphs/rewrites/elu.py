"""ELU, SELU and CELU by exponentials of values ≤ 0 only, so that none overflows.

::

    elu, selu, celu (x)   →   scale · (max(x, 0) + α · (exp(β · min(x, 0)) − 1))

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


class Elu(FloatRegion):
    """``scale · (x where x > 0, else α · (exp(β·x) − 1))``: ELU, SELU and CELU."""

    def __init__(self, alpha: float, scale: float, beta: float) -> None:
        super().__init__()
        self.alpha, self.scale, self.beta = alpha, scale, beta

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Element by element; any shape."""
        positive = torch.relu(x)
        negative = torch.exp((x - positive) * self.beta) - 1.0
        return positive * self.scale + negative * (self.alpha * self.scale)


def _elu(node: Node) -> nn.Module:
    _, alpha, scale, beta = arguments_of(node, None, 1, 1, 1)
    return Elu(float(alpha), float(scale), float(beta))


def _selu(node: Node) -> nn.Module:
    del node
    return Elu(alpha=1.6732632423543772, scale=1.0507009873554805, beta=1.0)


def _celu(node: Node) -> nn.Module:
    _, alpha = arguments_of(node, None, 1)
    return Elu(float(alpha), 1.0, 1 / float(alpha))


UNITS: dict[Any, Callable[[Node], nn.Module | None]] = {
    aten.elu.default: _elu,
    aten.selu.default: _selu,
    aten.celu.default: _celu,
}
