"""Activations in the form that every target computes in int8."""

from __future__ import annotations

import torch
from torch import nn


class SiLU(nn.Module):
    """``x · sigmoid(x)``: Ramachandran et al., "Searching for Activation Functions" (2017), called swish there.

    Written as the product: ``nn.SiLU`` is one operator that no runtime here has in int8.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Element by element; any shape."""
        return x * torch.sigmoid(x)
