"""Average pooling as a depthwise convolution with constant weights, which XNNPACK takes in int8 too.

::

    avg_pool2d(x, 3, stride 2)         →   depthwise conv2d with weights 1 / 9, stride 2
    avg_pool2d(x [N, C, 7, 7], 7)      →   mean((2, 3), keepdim)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.fx import Node

from pipeline.graphs.arguments import arguments_of, pair_of
from pipeline.graphs.rewrites.ceil_mode import overhangs
from pipeline.graphs.shapes import shape_of
from pipeline.graphs.units import plane_mean
from pipeline.zoo.units.pooling import AveragePool

aten: Any = torch.ops.aten


def _average(node: Node) -> nn.Module | None:
    source, kernel, stride, padding, ceil, counted, divisor = arguments_of(
        node, None, None, [], [0, 0], False, True, None
    )
    shape, kernel, padding = shape_of(source), pair_of(kernel), pair_of(padding)
    stride = pair_of(stride) if stride else kernel
    if len(shape) != 4 or (padding != (0, 0) and not counted and divisor is None):
        return None  # a border whose windows are smaller has no constant weights
    if ceil and any(overhangs(shape[2:], kernel, stride, padding, (1, 1))):
        return None
    if kernel == shape[2:] and padding == (0, 0) and divisor is None:
        return plane_mean(source, keep=True)
    return AveragePool(shape[1], kernel, stride, padding, divisor)


UNITS: dict[Any, Callable[[Node], nn.Module | None]] = {aten.avg_pool2d.default: _average}
