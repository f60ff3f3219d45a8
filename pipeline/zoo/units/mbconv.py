"""The mobile inverted bottleneck of EfficientNet."""

from __future__ import annotations

import torch
from torch import nn

from pipeline.zoo.units.activations import SiLU
from pipeline.zoo.units.blocks import ConvBatchNorm
from pipeline.zoo.units.squeeze_excitation import SqueezeExcitation
from pipeline.zoo.units.stochastic_depth import StochasticDepth


class MBConv(nn.Module):
    """1×1 expansion → depthwise → squeeze-and-excitation → 1×1 linear projection, with SiLU and a shortcut.

    Tan and Le, "EfficientNet" (2019), §4, after MnasNet. Squeeze-and-excitation is ``se_ratio`` times as wide as the
    unit's *input*, which is not its wide side, as in the published code. The shortcut is there where shapes allow, and
    the branch beside it is dropped with ``dropped`` probability in training. Children are named as in torchvision's
    state dicts. Shape ``[N, inputs, H, W]`` to ``[N, outputs, ⌈H/stride⌉, ⌈W/stride⌉]``.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int, se_ratio: float, dropped: float
    ) -> None:
        super().__init__()
        hidden = inputs * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers.append(ConvBatchNorm(inputs, hidden, kernel=1, activation=SiLU))
        layers += [
            ConvBatchNorm(hidden, hidden, kernel, stride, groups=hidden, activation=SiLU),
            SqueezeExcitation(hidden, max(1, int(inputs * se_ratio)), SiLU),
            ConvBatchNorm(hidden, outputs, kernel=1, activation=None),
        ]
        self.block = nn.Sequential(*layers)
        self.has_shortcut = stride == 1 and inputs == outputs
        self.stochastic_depth = StochasticDepth(dropped if self.has_shortcut else 0.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The unit's output, plus its input where ``has_shortcut``."""
        y: torch.Tensor = self.stochastic_depth(self.block(x))
        return x + y if self.has_shortcut else y
