"""The normalisation of images outside a file, as a float network takes them."""

from __future__ import annotations

import torch
from torch import nn

from edge_apps.runtime.preprocess import Preprocess


class Normalise(nn.Module):
    """uint8 ``[N, H, W, 3]`` to float32 ``[N, 3, H, W]`` in channels-last memory: ``(pixel / 255 − mean) / std``.

    Inside a file it is one multiplication and one addition, folded into the first layer: see ``front_ends.py``.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, preprocess: Preprocess) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(preprocess.mean) * 255)
        self.register_buffer("std", torch.tensor(preprocess.std) * 255)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Normalise one batch."""
        return ((batch - self.mean) / self.std).permute(0, 3, 1, 2)
