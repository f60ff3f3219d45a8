"""The exponential moving average of a network's weights: what a training hands over."""

from __future__ import annotations

import copy

import torch
from torch import nn

from pipeline.compat.torch import move_towards


class MovingAverage:
    """Averages parameters and batch-norm statistics of ``network`` (Polyak and Juditsky, 1992).

    ``average ← d · average + (1 − d) · value`` after each step t = 1, 2, …, with ``d = min(decay, t / (9 + t))``, so
    that a short training is not held back by its random start. With ``decay`` 0 the average is the network itself.
    Statistics are averaged too: those of the last batches belong to the last weights, not to averaged ones.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.network = copy.deepcopy(network).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Take in the network as it is after ``step`` (from 1)."""
        decay = min(self.decay, step / (9 + step))
        mine, its = self.network.state_dict(), network.state_dict()
        averaged = [name for name, tensor in mine.items() if tensor.is_floating_point()]
        move_towards([mine[name] for name in averaged], [its[name] for name in averaged], 1 - decay)
        for name in mine.keys() - averaged:
            mine[name].copy_(its[name])
