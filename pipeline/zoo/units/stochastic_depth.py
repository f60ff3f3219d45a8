"""Stochastic depth: residual branches that are left out at random while training."""

from __future__ import annotations

import torch
from torch import nn


class StochasticDepth(nn.Module):
    """Drops whole images of a residual branch with ``probability`` in training; does nothing in eval mode.

    Huang et al., "Deep Networks with Stochastic Depth" (2016), §3. As in the published EfficientNet code, every image
    of the batch is drawn for itself and those that are kept are divided by 1 − probability (0 ≤ probability < 1), so
    that the mean stays; the paper draws for the whole batch and scales when testing.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[N, C, H, W]``, the same shape."""
        if not self.training or self.probability == 0:
            return x
        kept = 1 - self.probability
        draw = torch.rand(len(x), 1, 1, 1, dtype=x.dtype, device=x.device) < kept
        return x * draw / kept

    def extra_repr(self) -> str:
        """The probability, in ``print(network)``."""
        return f"probability={self.probability:.4g}"
