"""The depthwise separable convolution of MobileNet V1, and the networks made of nothing else."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from pipeline.zoo.units.blocks import ConvBatchNorm, FeatureClassifier, initialise, make_divisible


class DepthwiseSeparable(nn.Module):
    """3×3 depthwise convolution, then 1×1 convolution, each with batch normalisation and ReLU.

    Howard et al., "MobileNets" (2017), §3.1 and figure 3: filtering and combining in two layers. Against one 3×3
    convolution it costs 1/outputs + 1/9. Shape ``[N, inputs, H, W]`` to ``[N, outputs, ⌈H/stride⌉, ⌈W/stride⌉]``.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.depthwise = ConvBatchNorm(inputs, inputs, stride=stride, groups=inputs, activation=nn.ReLU)
        self.pointwise = ConvBatchNorm(inputs, outputs, kernel=1, activation=nn.ReLU)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Filter, then combine."""
        y: torch.Tensor = self.pointwise(self.depthwise(x))
        return y


def separable_network(classes: int, width: float, stem: int, units: Iterable[tuple[int, int]]) -> nn.Module:
    """A 3×3 convolution of stride 2 with ``stem`` channels, then a unit for each (channels, stride), then the head.

    All channel counts are multiplied by ``width``. MobileNet V1 and FD-MobileNet differ in ``units`` alone.
    """
    channels = make_divisible(stem * width)
    features: list[nn.Module] = [ConvBatchNorm(3, channels, stride=2, activation=nn.ReLU)]
    for base, stride in units:
        outputs = make_divisible(base * width)
        features.append(DepthwiseSeparable(channels, outputs, stride))
        channels = outputs
    return initialise(FeatureClassifier(nn.Sequential(*features), nn.Sequential(nn.Linear(channels, classes))))
