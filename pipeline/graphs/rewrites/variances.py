"""Variances and standard deviations over axes of an image, as means over a plane, which delegates take.

::

    var, std  →  permute, reshape → mean((x − mean)²) · n / (n − correction) → reshape

They stay in float in an int8 file: statistics rounded to 256 steps would move every value that they divide.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.fx import Node

from calibration.float_region import FloatRegion
from pipeline.compat.torch import argument_names
from pipeline.graphs.arguments import argument_named
from pipeline.graphs.shapes import shape_of

aten: Any = torch.ops.aten

PLANE = (2, 3)
"""The axes that every delegate takes a mean over."""


class Variance(FloatRegion):
    """Variance and mean over some axes of an image.

    ``order`` puts those axes last, ``grouped`` is the shape ``[groups, 1, count]`` of one image then, ``shape`` that
    of its result.
    """

    def __init__(
        self, order: Sequence[int], grouped: tuple[int, int, int], shape: Sequence[int], correction: float
    ) -> None:
        super().__init__()
        self.order, self.grouped, self.shape = list(order), grouped, tuple(shape)
        self.factor = grouped[2] / (grouped[2] - correction)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """``[N, …]`` to two tensors ``[N, *shape]``."""
        turned = x if self.order == sorted(self.order) else x.permute(self.order)
        groups = turned.reshape(-1, *self.grouped)
        mean = groups.mean(PLANE, keepdim=True)
        apart = groups - mean
        variance = (apart * apart).mean(PLANE, keepdim=True) * self.factor
        return self._finished(variance).reshape(-1, *self.shape), mean.reshape(-1, *self.shape)

    def _finished(self, variance: torch.Tensor) -> torch.Tensor:
        return variance


class Deviation(Variance):
    """Standard deviation and mean."""

    def _finished(self, variance: torch.Tensor) -> torch.Tensor:
        return torch.sqrt(variance)


class First(nn.Module):
    """The first result of a unit that has two."""

    def __init__(self, unit: nn.Module) -> None:
        super().__init__()
        self.unit = unit

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As the unit takes it."""
        first: torch.Tensor = self.unit(x)[0]
        return first


def _variance(kind: type[Variance], *, with_mean: bool) -> Callable[[Node], nn.Module | None]:
    def unit(node: Node) -> nn.Module | None:
        by_number = "correction" in argument_names(node.target)
        correction = argument_named(node, "correction") if by_number else int(argument_named(node, "unbiased"))
        axes, keep = argument_named(node, "dim"), argument_named(node, "keepdim")
        found = _over(kind, shape_of(node.args[0]), axes, 1 if correction is None else correction, keep)
        return found if with_mean or found is None else First(found)

    return unit


def _over(kind: type[Variance], shape: tuple[int, ...], axes: Any, correction: float, keep: bool) -> Variance | None:
    """None where the statistics are of several images, or of too few values."""
    if not axes or 0 in (reduced := [axis % len(shape) for axis in axes]):
        return None
    kept = [axis for axis in range(len(shape)) if axis not in reduced]
    count = math.prod(shape[axis] for axis in reduced)
    if count <= correction:
        return None
    result = [1 if axis in reduced else shape[axis] for axis in range(1, len(shape)) if keep or axis in kept]
    grouped = (math.prod(shape[axis] for axis in kept[1:]), 1, count)
    return kind([*kept, *sorted(reduced)], grouped, result, correction)


UNITS: dict[Any, Callable[[Node], nn.Module | None]] = {
    **dict.fromkeys((aten.var.dim, aten.var.correction), _variance(Variance, with_mean=False)),
    **dict.fromkeys((aten.std.dim, aten.std.correction), _variance(Deviation, with_mean=False)),
    **dict.fromkeys((aten.var_mean.dim, aten.var_mean.correction), _variance(Variance, with_mean=True)),
    **dict.fromkeys((aten.std_mean.dim, aten.std_mean.correction), _variance(Deviation, with_mean=True)),
}
