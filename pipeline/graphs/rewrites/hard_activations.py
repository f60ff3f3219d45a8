"""Hard sigmoid and hard swish in operators that compute in int8.

::

    hardsigmoid(x)  →  relu6(x + 3) / 6
    hardswish(x)    →  x · relu6(x + 3) / 6

The sum and the quotient are depthwise 1×1 convolutions: int8 has no arithmetic with numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.fx import Node
from torch.nn import functional

from pipeline.graphs.shapes import shape_of
from pipeline.graphs.units import ChannelScale

aten: Any = torch.ops.aten


class HardSigmoid(nn.Module):
    """``relu6(x + 3) / 6``: ReLU6 fuses with the sum in every runtime, which a clamp to 0…1 does not in LiteRT."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        ones = torch.ones(channels)
        self.shift = ChannelScale(ones, 3 * ones)
        self.scale = ChannelScale(ones / 6, 0 * ones)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[N, C, H, W]`` or ``[N, C]`` to the same shape."""
        gate: torch.Tensor = self.scale(functional.relu6(self.shift(x)))
        return gate


class HardSwish(HardSigmoid):
    """``x · hardsigmoid(x)``: Howard et al., "Searching for MobileNetV3" (2019), §5.2."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[N, C, H, W]`` or ``[N, C]`` to the same shape."""
        return x * super().forward(x)


def _hard(kind: type[HardSigmoid]) -> Callable[[Node], nn.Module | None]:
    def unit(node: Node) -> nn.Module | None:
        shape = shape_of(node.args[0])
        return kind(shape[1]) if len(shape) in (2, 4) else None

    return unit


UNITS: dict[Any, Callable[[Node], nn.Module | None]] = {
    aten.hardswish.default: _hard(HardSwish),
    aten.hardsigmoid.default: _hard(HardSigmoid),
}
