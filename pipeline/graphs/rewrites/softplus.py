"""Softplus, LogSigmoid and Mish, which runtimes lack or compute wrongly in int8, by the logarithm of a sigmoid.

::

    softplus(x)     →  max(x, 0) − log σ(|x|)
    log_sigmoid(x)  →  min(x, 0) + log σ(|x|)
    mish(x)         →  x · tanh(softplus(x))

min(x, 0) is written x − max(x, 0), which is the same number, because LiteRT leaves MINIMUM outside its delegate.

They stay in float in an int8 file: one region between two int8 tensors, whole on the delegate.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.fx import Node

from calibration.float_region import FloatRegion
from pipeline.graphs.arguments import arguments_of

aten: Any = torch.ops.aten

LEAST_THRESHOLD = 14
"""Of a softplus: above it PyTorch returns x, which is less by exp(−threshold) / β; a lower one shows."""


class Softplus(FloatRegion):
    """``log(1 + exp(β·x)) / β``; above a threshold of β·x, if there is one, ``x``."""

    def __init__(self, beta: float = 1.0, threshold: float | None = None) -> None:
        super().__init__()
        self.beta, self.threshold = beta, threshold

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Element by element; any shape."""
        scaled = x if self.beta == 1 else x * self.beta
        soft = _softplus(scaled)
        if self.threshold is not None:
            above = (scaled > self.threshold).to(x.dtype)
            soft = scaled * above + soft * (1.0 - above)
        return soft if self.beta == 1 else soft / self.beta


class LogSigmoid(FloatRegion):
    """``log σ(x)``."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Element by element; any shape."""
        return (x - torch.relu(x)) + torch.log(torch.sigmoid(x.abs()))


class Mish(FloatRegion):
    """``x · tanh(softplus(x))``: Misra, "Mish: A Self Regularized Non-Monotonic Activation Function" (2019)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Element by element; any shape."""
        return x * torch.tanh(_softplus(x))


def _softplus(x: torch.Tensor) -> torch.Tensor:
    """σ(|x|) lies between ½ and 1: its logarithm is exact where −log σ(−x) is infinite in float32 (x > 88)."""
    return torch.relu(x) - torch.log(torch.sigmoid(x.abs()))


def _rewritten_softplus(node: Node) -> nn.Module:
    _, beta, threshold = arguments_of(node, None, 1, 20)
    return Softplus(float(beta), None if threshold >= LEAST_THRESHOLD else float(threshold))


UNITS: dict[Any, Callable[[Node], nn.Module | None]] = {
    aten.softplus.default: _rewritten_softplus,
    aten.log_sigmoid.default: lambda _node: LogSigmoid(),
    aten.mish.default: lambda _node: Mish(),
}
