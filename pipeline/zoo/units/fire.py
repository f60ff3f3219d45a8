"""The fire module of SqueezeNet."""

from __future__ import annotations

import torch
from torch import nn


class Fire(nn.Module):
    """1×1 squeeze, then 1×1 and 3×3 expansions side by side, each with ReLU (Iandola et al., 2016, §3.2).

    ``bypass`` (§6): ``none``; ``simple`` adds the input where it has as many channels as the output; ``complex`` adds
    a 1×1 convolution of it where it has not. That convolution has a ReLU like every other (the paper does not say).
    Shape ``[N, inputs, H, W]`` to ``[N, expand1x1 + expand3x3, H, W]``, never negative.
    """

    def __init__(self, inputs: int, squeeze: int, expand1x1: int, expand3x3: int, bypass: str = "none") -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand1x1, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand3x3, 3, padding=1)
        self.relu = nn.ReLU()
        self.bypass = _bypass(bypass, inputs, expand1x1 + expand3x3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Both expansions, joined along the channels."""
        squeezed = self.relu(self.squeeze(x))
        y = torch.cat([self.relu(self.expand1x1(squeezed)), self.relu(self.expand3x3(squeezed))], 1)
        return y if self.bypass is None else y + self.bypass(x)


def _bypass(kind: str, inputs: int, outputs: int) -> nn.Module | None:
    if kind == "none":
        return None
    if inputs == outputs:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1), nn.ReLU()) if kind == "complex" else None
