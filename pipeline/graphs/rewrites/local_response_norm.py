"""Local response normalization as ``F.local_response_norm`` writes it, as the unit of the zoo.

::

    x² → pad → avg_pool3d → · α → + k → ^0.75 → x / …   →   x · (k + α · banded 1×1 conv of x²)^−0.75
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.fx import Node

from pipeline.graphs.arguments import arguments_of
from pipeline.graphs.patterns import Pattern, behind, is_call
from pipeline.graphs.shapes import shape_of
from pipeline.zoo.units.normalisation import LocalResponseNorm

aten: Any = torch.ops.aten


def _local_response_norm(node: Node) -> tuple[nn.Module, Node, str] | None:
    """``x / (k + α · average of x² over n channels)^0.75``, as ``F.local_response_norm`` spells it."""
    source, power = arguments_of(node, None, None)
    if not isinstance(source, Node) or not is_call(power, aten.pow.Tensor_Scalar) or power.args[1] != 0.75:
        return None
    k_added, k = _scalar(power.args[0], aten.add.Tensor)
    scaled, alpha = _scalar(k_added, aten.mul.Tensor)
    pooled = behind(scaled, aten.reshape.default, aten.squeeze.dim)
    if not is_call(pooled, aten.avg_pool3d.default) or k is None or alpha is None:
        return None
    size = pooled.args[1][0]
    if list(pooled.args[1]) != [size, 1, 1] or list(pooled.args[2]) != [1, 1, 1] or any(pooled.args[3:]):
        return None
    padded = pooled.args[0]
    if not is_call(padded, aten.pad.default) or list(padded.args[1]) != [0, 0, 0, 0, size // 2, (size - 1) // 2]:
        return None
    square = behind(padded.args[0], aten.reshape.default, aten.unsqueeze.default)
    if not is_call(square, aten.mul.Tensor) or tuple(square.args) != (source, source) or len(shape_of(source)) != 4:
        return None
    return LocalResponseNorm(shape_of(source)[1], size, alpha / size, k), source, "local_response_norm"


def _scalar(value: Any, target: Any) -> tuple[Any, float | None]:
    """Return the tensor and the number that an operator joins."""
    if not is_call(value, target) or not isinstance(value.args[1], (int, float)) or value.kwargs:
        return None, None
    return value.args[0], float(value.args[1])


PATTERNS: dict[Any, Pattern] = {aten.div.Tensor: _local_response_norm}
