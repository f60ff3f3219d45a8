"""Building blocks that several families share."""

from __future__ import annotations

import torch
from torch import nn


def make_divisible(channels: float, divisor: int = 8) -> int:
    """Round a scaled channel count to a multiple of ``divisor``, never below 90 % of it.

    The rule of the published MobileNetV2 code: ``max(divisor, ⌊c + divisor/2⌋ rounded down)``, one step up where
    that lost more than a tenth.
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


class ConvBatchNorm(nn.Sequential):
    """Convolution without bias, batch normalisation, and an activation unless it is None; "same" padding."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 3,
        stride: int = 1,
        groups: int = 1,
        activation: type[nn.Module] | None = nn.ReLU6,
    ) -> None:
        layers: list[nn.Module] = [
            nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
        ]
        if activation is not None:
            layers.append(activation())
        super().__init__(*layers)


class GlobalAveragePool(nn.Module):
    """``[N, C, H, W]`` to ``[N, C]``.

    Written as a mean that keeps its dimensions and then a flatten: a mean that drops them is left outside XNNPACK.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Average over H and W."""
        return x.mean((2, 3), keepdim=True).flatten(1)


class FeatureClassifier(nn.Module):
    """``features`` (a Sequential of units), global average pooling, ``classifier``.

    The two names are those of the common published state dicts.
    """

    def __init__(self, features: nn.Sequential, classifier: nn.Sequential) -> None:
        super().__init__()
        self.features = features
        self.pool = GlobalAveragePool()
        self.classifier = classifier

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits ``[N, K]`` of normalised float images ``[N, 3, H, W]``."""
        logits: torch.Tensor = self.classifier(self.pool(self.features(x)))
        return logits


def initialise(network: nn.Module) -> nn.Module:
    """He initialisation (fan-out) of convolutions, unit batch norms, N(0, 0.01) linear layers; returns the network."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)
    return network
