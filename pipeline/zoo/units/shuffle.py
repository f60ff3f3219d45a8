"""The units of ShuffleNet: channel shuffle, and the bottleneck around it."""

from __future__ import annotations

import torch
from torch import nn

from pipeline.zoo.units.blocks import ConvBatchNorm
from pipeline.zoo.units.pooling import AveragePool
from pipeline.zoo.units.squeeze_excitation import SqueezeExcitation


class ChannelShuffle(nn.Module):
    """Deals the channels of each group out over all groups: channel g·n + i goes to i·groups + g.

    Zhang et al., "ShuffleNet" (2018), §3.1: reshape channels to (groups, n), transpose, flatten. Equal to
    ``nn.ChannelShuffle``. Written on the last axis of a channels-last view, where the runtimes keep their channels:
    over axis 1, every shuffle is wrapped in transpositions there.
    """

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[N, C, H, W]``, the same shape; C is a multiple of ``groups``."""
        batch, channels, height, width = x.shape
        grouped = x.permute(0, 2, 3, 1).reshape(batch, height, width, self.groups, channels // self.groups)
        shuffled = grouped.transpose(3, 4).reshape(batch, height, width, channels)
        return shuffled.permute(0, 3, 1, 2)

    def extra_repr(self) -> str:
        """The groups, in ``print(network)``."""
        return f"groups={self.groups}"


class ShuffleUnit(nn.Module):
    """1×1 convolution → channel shuffle → 3×3 depthwise → 1×1 convolution, beside a shortcut.

    Zhang et al., "ShuffleNet" (2018), §3.2. The three units of figure 2 are this one with

    * (a) ``groups=1``: the depthwise bottleneck, with nothing to shuffle;
    * (b) ``groups=g``: both 1×1 convolutions in g groups, the shuffle between them, ReLU after the sum;
    * (c) ``stride=2``: the shortcut is a 3×3 average pool of stride 2 and is joined as further channels.

    Inside it has ``hidden`` channels, ``first_groups`` are the groups of the first 1×1 convolution where they differ.
    ``shuffle=False`` leaves the shuffle out (table 3). ``reduction`` > 0 puts
    squeeze-and-excitation on the branch, before it meets the shortcut (Hu et al., 2018, table 3). Shape
    ``[N, inputs, H, W]`` to ``[N, outputs, ⌈H/stride⌉, ⌈W/stride⌉]``; stride 1 needs equal channels, stride 2 more
    outputs than inputs.

    In (c) the ReLU is on the branch instead of on the joined tensor: the pooled input of a unit is never negative,
    so it is the same, and it fuses into the convolution.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        hidden: int,
        stride: int,
        groups: int,
        first_groups: int | None = None,
        shuffle: bool = True,
        reduction: int = 0,
    ) -> None:
        super().__init__()
        branch = outputs if stride == 1 else outputs - inputs
        first = groups if first_groups is None else first_groups
        layers: list[nn.Module] = [ConvBatchNorm(inputs, hidden, 1, groups=first, activation=nn.ReLU)]
        if shuffle and groups > 1:
            layers.append(ChannelShuffle(groups))
        layers += [
            ConvBatchNorm(hidden, hidden, stride=stride, groups=hidden, activation=None),
            ConvBatchNorm(hidden, branch, 1, groups=groups, activation=None),
        ]
        if reduction:
            layers.append(SqueezeExcitation(branch, max(1, branch // reduction)))
        self.branch = nn.Sequential(*layers)
        self.activation = nn.ReLU()
        self.pool = None if stride == 1 else AveragePool(inputs, 3, stride, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Sum with the shortcut at stride 1, concatenation with the pooled one otherwise."""
        y: torch.Tensor = self.branch(x)
        if self.pool is not None:
            return torch.cat((self.pool(x), self.activation(y)), dim=1)
        total: torch.Tensor = self.activation(x + y)
        return total
