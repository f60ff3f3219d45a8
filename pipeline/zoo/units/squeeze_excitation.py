"""The squeeze-and-excitation unit of SENet: channels weighed by what the whole image holds."""

from __future__ import annotations

import torch
from torch import nn


class SqueezeExcitation(nn.Module):
    """Global average → 1×1 convolution → activation → 1×1 convolution → sigmoid → a factor for each channel.

    Hu et al., "Squeeze-and-Excitation Networks" (2018), §3. Attachable to any unit whose output has ``channels``
    channels; ``squeezed`` is the width between the two convolutions, channels / reduction in the paper. The two
    fully-connected layers (W₁ and W₂ of equation 3) are 1×1 convolutions with biases, which is the same arithmetic
    without a reshape. Shape ``[N, channels, H, W]``, unchanged.
    """

    def __init__(self, channels: int, squeezed: int, activation: type[nn.Module] = nn.ReLU) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.activation = activation()
        self.fc2 = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The input, each channel multiplied by its gate between 0 and 1."""
        gate = torch.sigmoid(self.fc2(self.activation(self.fc1(x.mean((2, 3), keepdim=True)))))
        return x * gate
