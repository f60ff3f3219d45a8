"""Activations that a runtime lacks, or computes wrongly in int8, written as operators that all delegates take.

Each stays in float in an int8 file: one region between two int8 tensors, whole on the delegate. Exponentials are
taken of values ≤ 0 only, so that none overflows, whatever the input; the negative part min(x, 0) is written
x − max(x, 0), which is the same number, because LiteRT leaves MINIMUM outside its delegate.

::

    softplus → max(x, 0) − log σ(|x|)          log_sigmoid → min(x, 0) + log σ(|x|)
    mish     → x · tanh(softplus(x))           gelu (tanh) → x · σ(x · (a + b·x²))
    elu, selu, celu → scale · (max(x, 0) + α · (exp(β · min(x, 0)) − 1))
    clamp → l + max(x − l, 0), h − max(h − x, 0)
    softshrink → max(x − λ, 0) − max(−x − λ, 0)
    hardshrink → x · [|x| > λ]                 threshold → x · [x > t] + v · [x ≤ t]
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.fx import Node

from calibration.float_region import FloatRegion
from pipeline.graphs.arguments import shape_of, with_defaults

aten: Any = torch.ops.aten

LARGEST_BOUND = 100
"""Of a clamp written by ReLU: its differences round values near 0 to steps of the bound · 6e-8."""

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


class Elu(FloatRegion):
    """``scale · (x where x > 0, else α · (exp(β·x) − 1))``: ELU, SELU and CELU."""

    def __init__(self, alpha: float, scale: float, beta: float) -> None:
        super().__init__()
        self.alpha, self.scale, self.beta = alpha, scale, beta

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Element by element; any shape."""
        positive = torch.relu(x)
        negative = torch.exp((x - positive) * self.beta) - 1.0
        return positive * self.scale + negative * (self.alpha * self.scale)


class GeluTanh(FloatRegion):
    """GELU by tanh: ``x/2 · (1 + tanh(z)) = x · σ(2z)`` with ``z = √(2/π) · (x + 0.044715·x³)``."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Element by element; any shape."""
        linear = 2 * math.sqrt(2 / math.pi)
        return x * torch.sigmoid(x * (x * x * (0.044715 * linear) + linear))


class Softshrink(FloatRegion):
    """``x`` moved towards 0 by λ, and 0 within ±λ."""

    def __init__(self, bound: float) -> None:
        super().__init__()
        self.bound = bound

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Element by element; any shape."""
        above, below = x - self.bound, -x - self.bound
        return torch.relu(above) - torch.relu(below)


class Hardshrink(FloatRegion):
    """``x``, and 0 within ±λ."""

    def __init__(self, bound: float) -> None:
        super().__init__()
        self.bound = bound

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Element by element; any shape."""
        return x * (x.abs() > self.bound).to(x.dtype)


class Threshold(FloatRegion):
    """``x`` above a threshold, else a value."""

    def __init__(self, threshold: float, value: float) -> None:
        super().__init__()
        self.threshold, self.value = threshold, value

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Element by element; any shape."""
        above = (x > self.threshold).to(x.dtype)
        kept = x * above
        return kept + (1.0 - above) * self.value if self.value else kept


class Clamp(FloatRegion):
    """``x`` within bounds, by ReLU: LiteRT's delegate leaves MAXIMUM and MINIMUM with a number outside."""

    def __init__(self, low: float | None, high: float | None) -> None:
        super().__init__()
        self.low, self.high = low, high

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Element by element; any shape."""
        if self.low is not None:
            x = torch.relu(x - self.low) + self.low
        if self.high is not None:
            x = self.high - torch.relu(self.high - x)
        return x


class GatedLinear(nn.Module):
    """``a · σ(b)`` of the two halves of an axis: int8 as a product and a sigmoid are."""

    def __init__(self, axis: int, size: int) -> None:
        super().__init__()
        self.axis, self.size = axis, size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[…, 2·size, …]`` to ``[…, size, …]``."""
        before = (slice(None),) * self.axis
        gate = torch.sigmoid(x[(*before, slice(self.size, 2 * self.size))])
        return x[(*before, slice(0, self.size))] * gate


def _softplus(x: torch.Tensor) -> torch.Tensor:
    """σ(|x|) lies between ½ and 1: its logarithm is exact where −log σ(−x) is infinite in float32 (x > 88)."""
    return torch.relu(x) - torch.log(torch.sigmoid(x.abs()))


def _rewritten_softplus(node: Node) -> nn.Module:
    _, beta, threshold = with_defaults(node, None, 1, 20)
    return Softplus(float(beta), None if threshold >= LEAST_THRESHOLD else float(threshold))


def _elu(node: Node) -> nn.Module:
    _, alpha, scale, beta = with_defaults(node, None, 1, 1, 1)
    return Elu(float(alpha), float(scale), float(beta))


def _selu(node: Node) -> nn.Module:
    del node
    return Elu(alpha=1.6732632423543772, scale=1.0507009873554805, beta=1.0)


def _celu(node: Node) -> nn.Module:
    _, alpha = with_defaults(node, None, 1)
    return Elu(float(alpha), 1.0, 1 / float(alpha))


def _gelu(node: Node) -> nn.Module | None:
    """The form by erf is one operator everywhere."""
    return GeluTanh() if node.kwargs.get("approximate") == "tanh" else None


def _clamp(node: Node) -> nn.Module | None:
    if not node.meta["val"].is_floating_point():
        return None
    _, low, high = with_defaults(node, None, None, None)
    return _within(low, high)


def _clamp_min(node: Node) -> nn.Module | None:
    return _within(node.args[1], None)


def _clamp_max(node: Node) -> nn.Module | None:
    return _within(None, node.args[1])


def _within(low: Any, high: Any) -> nn.Module | None:
    """The bounds that every runtime has an operator for, in int8 too; others by float ReLUs."""
    bounds = [bound for bound in (low, high) if bound is not None]
    if not all(isinstance(bound, int | float) and abs(bound) <= LARGEST_BOUND for bound in bounds):
        return None
    known: dict[Any, Callable[[], nn.Module]] = {(0, None): nn.ReLU, (0, 6): nn.ReLU6, (-1, 1): nn.Hardtanh}
    if (low, high) in known:
        return known[low, high]()
    return Clamp(*[None if bound is None else float(bound) for bound in (low, high)])


def _softshrink(node: Node) -> nn.Module:
    _, bound = with_defaults(node, None, 0.5)
    return Softshrink(float(bound))


def _hardshrink(node: Node) -> nn.Module:
    _, bound = with_defaults(node, None, 0.5)
    return Hardshrink(float(bound))


def _threshold(node: Node) -> nn.Module:
    _, threshold, value = with_defaults(node, None, None, None)
    return nn.ReLU() if threshold == value == 0 else Threshold(float(threshold), float(value))


def _rrelu(node: Node) -> nn.Module | None:
    """In evaluation the slope is the mean of its bounds."""
    _, lower, upper, training = with_defaults(node, None, 1 / 8, 1 / 3, False)
    return None if training else nn.LeakyReLU((float(lower) + float(upper)) / 2)


def _glu(node: Node) -> nn.Module | None:
    source, axis = with_defaults(node, None, -1)
    shape = shape_of(source)
    axis %= len(shape)
    return GatedLinear(axis, shape[axis] // 2) if axis else None


UNITS: dict[Any, Callable[[Node], nn.Module | None]] = {
    aten.softplus.default: _rewritten_softplus,
    aten.log_sigmoid.default: lambda _node: LogSigmoid(),
    aten.mish.default: lambda _node: Mish(),
    aten.elu.default: _elu,
    aten.selu.default: _selu,
    aten.celu.default: _celu,
    aten.gelu.default: _gelu,
    aten.clamp.default: _clamp,
    aten.clamp_min.default: _clamp_min,
    aten.clamp_max.default: _clamp_max,
    aten.softshrink.default: _softshrink,
    aten.hardshrink.default: _hardshrink,
    aten.threshold.default: _threshold,
    aten.rrelu.default: _rrelu,
    aten.glu.default: _glu,
}
