"""Adaptive average pooling whose bins all have one size and one distance, as average pooling.

::

    adaptive_avg_pool2d(x [N, C, 14, 14], 7)   →   depthwise conv2d with weights 1 / 4, stride 2
    adaptive_avg_pool2d(x, 1)                  →   mean((2, 3), keepdim)
    adaptive_avg_pool2d(x [N, C, 7, 7], 7)     →   x
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.fx import Node

from pipeline.graphs.arguments import pair_of
from pipeline.graphs.shapes import shape_of
from pipeline.graphs.units import plane_mean
from pipeline.zoo.units.pooling import AveragePool

aten: Any = torch.ops.aten


def _adaptive_average(node: Node) -> nn.Module | None:
    """Bins that all have one size and one distance are windows; others stay."""
    source, size = node.args[:2]
    sides, wanted = shape_of(source)[2:], pair_of(size)
    if len(sides) != 2:
        return None
    windows = [_window(side, bins) for side, bins in zip(sides, wanted, strict=True)]
    if wanted == (1, 1):
        return plane_mean(source, keep=True)
    if windows[0] is None or windows[1] is None:
        return None
    if wanted == sides:
        return nn.Identity()
    return AveragePool(shape_of(source)[1], *zip(*windows, strict=True))


def _window(side: int, bins: int) -> tuple[int, int] | None:
    """Return kernel and stride where bin i covers ⌊i·side/bins⌋ … ⌈(i + 1)·side/bins⌉ in equal steps."""
    starts = [i * side // bins for i in range(bins)]
    sizes = {-(-(i + 1) * side // bins) - start for i, start in enumerate(starts)}
    steps = {b - a for a, b in pairwise(starts)} or {1}
    return (sizes.pop(), steps.pop()) if len(sizes) == len(steps) == 1 and steps != {0} else None


UNITS: dict[Any, Callable[[Node], nn.Module | None]] = {aten.adaptive_avg_pool2d.default: _adaptive_average}
