"""The form of the networks that classify a whole map of positions: AlexNet and VGG."""

from __future__ import annotations

import torch
from torch import nn

from pipeline.zoo.units.pooling import GridPool


class GridClassifier(nn.Module):
    """``features`` (a Sequential), pooling to grid × grid positions, ``classifier`` of C · grid² inputs.

    The two names are those of the common published state dicts.
    """

    def __init__(self, features: nn.Sequential, grid: int, classifier: nn.Sequential) -> None:
        super().__init__()
        self.features = features
        self.pool = GridPool(grid)
        self.classifier = classifier

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits ``[N, K]`` of normalised float images ``[N, 3, H, W]``."""
        logits: torch.Tensor = self.classifier(self.pool(self.features(x)).flatten(1))
        return logits
