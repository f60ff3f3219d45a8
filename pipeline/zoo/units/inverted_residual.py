"""The inverted residual unit of MobileNetV2, used by later families too."""

from __future__ import annotations

import torch
from torch import nn

from pipeline.zoo.units.blocks import ConvBatchNorm
from pipeline.zoo.units.squeeze_excitation import SqueezeExcitation


class InvertedResidual(nn.Module):
    """1×1 expansion → 3×3 depthwise → 1×1 linear projection, with a shortcut where shapes allow.

    Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks" (2018), §3.3 and figure 4. The
    projection has no activation (§3.2). Shape ``[N, inputs, H, W]`` to ``[N, outputs, H/stride, W/stride]``.

    With ``reduction``, squeeze and excitation follows the depthwise convolution, where the unit is wide, as in
    MnasNet (Tan et al., 2019) and MobileNetV3 (Howard et al., 2019); 0 is without.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int, reduction: int = 0) -> None:
        super().__init__()
        hidden = inputs * expansion
        layers: list[nn.Module] = [] if expansion == 1 else [ConvBatchNorm(inputs, hidden, kernel=1)]
        layers.append(ConvBatchNorm(hidden, hidden, stride=stride, groups=hidden))
        if reduction:
            layers.append(SqueezeExcitation(hidden, max(1, hidden // reduction)))
        layers += [
            # Not a ConvBatchNorm: published state dicts keep the projection flat (conv.2, conv.3).
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        ]
        self.conv = nn.Sequential(*layers)
        self.has_shortcut = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The unit's output, plus its input where ``has_shortcut``."""
        y: torch.Tensor = self.conv(x)
        return x + y if self.has_shortcut else y
