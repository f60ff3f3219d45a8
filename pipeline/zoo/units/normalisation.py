"""Local response normalisation without the operators that no delegate takes."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class LocalResponseNorm(nn.Module):
    """``x · (k + α · Σ x²)^-β``, the sum over the n channels around each: Krizhevsky et al. (2012), §3.3.

    Equal to ``nn.LocalResponseNorm(size, size · alpha, 0.75, k)``, which divides its α by the window size n, as Caffe
    does and the paper does not. β is always 0.75. The sum is a 1×1 convolution with a banded matrix, and the power
    −3/4 is square roots and reciprocals: ``nn.LocalResponseNorm`` pads and pools over channels, which ExecuTorch
    writes but cannot load.
    """

    band: torch.Tensor
    share: torch.Tensor
    k: torch.Tensor

    def __init__(self, channels: int, size: int = 5, alpha: float = 1e-4, k: float = 2.0) -> None:
        super().__init__()
        self.described = f"channels={channels}, size={size}, alpha={alpha:g}, k={k:g}"
        index = torch.arange(channels)
        distance = index[None] - index[:, None]  # column minus row: which inputs a channel sums over
        near = (distance >= -(size // 2)) & (distance <= (size - 1) // 2)
        self.register_buffer("band", near.float()[:, :, None, None], persistent=False)
        self.register_buffer("share", torch.full((1, 1, 1, 1), alpha), persistent=False)
        self.register_buffer("k", torch.full((1, 1, 1, 1), k), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[N, C, H, W]`` to the same shape."""
        # The sums are int8 in an int8 file; from here to the factor it is float, and the product int8 again.
        energy = functional.conv2d(x * x, self.band) * self.share + self.k
        factor = torch.rsqrt(energy) * torch.rsqrt(torch.sqrt(energy))
        return x * factor

    def extra_repr(self) -> str:
        """For ``repr``."""
        return self.described
