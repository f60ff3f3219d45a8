"""Tensors of one value and another's shape (``zeros_like``), which no delegate makes, as arithmetic.

::

    zeros_like(x)     →  x · 0
    full_like(x, v)   →  x · 0 + v
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.fx import Node

aten: Any = torch.ops.aten


class Filled(nn.Module):
    """A tensor of one value and another's shape: an operator that delegates take, where ``zeros_like`` is none."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Any shape."""
        return x * 0.0 + self.value if self.value else x * 0.0


def _filled(value: float | None) -> Callable[[Node], nn.Module | None]:
    def unit(node: Node) -> nn.Module | None:
        number: Any = node.args[1] if value is None else value
        source: Any = node.args[0]
        same_type = node.meta["val"].dtype == source.meta["val"].dtype
        return Filled(float(number)) if same_type and isinstance(number, int | float) else None

    return unit


UNITS: dict[Any, Callable[[Node], nn.Module | None]] = {
    aten.zeros_like.default: _filled(0.0),
    aten.empty_like.default: _filled(0.0),
    aten.ones_like.default: _filled(1.0),
    aten.full_like.default: _filled(None),
}
