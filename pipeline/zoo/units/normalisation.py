"""Local response normalisation without the operators that no delegate takes."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class LocalResponseNorm(nn.Module):
    """``x · (k + α/n · Σ x²)^-β``, the sum over the n channels around each: Krizhevsky et al. (2012), §3.3.

    Equal to ``nn.LocalResponseNorm(size, alpha, 0.75, k)``, whose α is divided by the window size n as in Caffe; the
    paper's α is not. The sum is a 1×1 convolution with a banded matrix, and the power −3/4 is two square roots and
    reciprocals: ``nn.LocalResponseNorm`` pads and pools over channels, which ExecuTorch writes but cannot load.
    """

    band: torch.Tensor
    offset: torch.Tensor

    def __init__(self, channels: int, size: int = 5, alpha: float = 1e-4, k: float = 1.0) -> None:
        super().__init__()
        index = torch.arange(channels)
        distance = index[None] - index[:, None]  # column minus row: which inputs a channel sums over
        near = (distance >= -(size // 2)) & (distance <= (size - 1) // 2)
        self.register_buffer("band", (alpha / size * near.float())[:, :, None, None], persistent=False)
        self.register_buffer("offset", torch.full((channels,), k), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[N, C, H, W]`` to the same shape."""
        energy = functional.conv2d(x * x, self.band, self.offset)
        root = torch.sqrt(energy)
        return x * torch.rsqrt(root) * torch.rsqrt(energy)
