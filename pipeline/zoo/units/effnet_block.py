"""The spatially separable block of EffNet."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class EffNetBlock(nn.Module):
    """1×1 → 1×3 depthwise → 2×1 max-pool → 3×1 depthwise → 2×1 convolution of stride (1, 2).

    Freeman, Roese-Koerner, Kummert, "EffNet" (2018), §4: rows are halved between the two depthwise convolutions,
    columns by the last one, so that no layer throws away three quarters of the data at once. Every convolution is
    followed by batch normalisation and a leaky ReLU of ``slope``.

    Shape ``[N, inputs, H, W]`` to ``[N, outputs, ⌊H/2⌋, ⌈W/2⌉]``, as in the common Keras code: the pool drops the
    last of an odd number of rows, and the 2×1 convolution sees one row of zeros below the picture.
    """

    def __init__(self, inputs: int, hidden: int, outputs: int, slope: float) -> None:
        super().__init__()
        self.pointwise = _normalised(nn.Conv2d(inputs, hidden, 1, bias=False), slope)
        self.along_row = _normalised(
            nn.Conv2d(hidden, hidden, (1, 3), padding=(0, 1), groups=hidden, bias=False), slope
        )
        self.pool = nn.MaxPool2d((2, 1))
        self.along_column = _normalised(
            nn.Conv2d(hidden, hidden, (3, 1), padding=(1, 0), groups=hidden, bias=False), slope
        )
        self.widening = _normalised(nn.Conv2d(hidden, outputs, (2, 1), stride=(1, 2), bias=False), slope)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """At least two rows are needed."""
        y = self.along_column(self.pool(self.along_row(self.pointwise(x))))
        widened: torch.Tensor = self.widening(functional.pad(y, (0, 0, 0, 1)))
        return widened


def _normalised(convolution: nn.Conv2d, slope: float) -> nn.Sequential:
    rectifier = nn.LeakyReLU(slope) if slope else nn.ReLU()  # LiteRT's converter makes comparisons of a slope of 0
    return nn.Sequential(convolution, nn.BatchNorm2d(convolution.out_channels), rectifier)
