"""Whole numbers in arithmetic with float tensors, as float numbers.

::

    add(x, 1)   →   add(x, 1.0)

``x + 1`` is captured with the integer 1. ExecuTorch stores it as an int64 tensor and converts that in the file, in a
kernel outside the delegate; LiteRT does the same to the limits of a clamp.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node

from pipeline.graphs.flat import FlatNetwork

aten: Any = torch.ops.aten

ARITHMETIC = {
    aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor, aten.rsub.Scalar,
    aten.add.Scalar, aten.sub.Scalar, aten.mul.Scalar, aten.div.Scalar,
    aten.clamp.default, aten.clamp_min.default, aten.clamp_max.default,
}  # fmt: skip


def make_numbers_float(network: FlatNetwork) -> None:
    """Replace the integers among the arguments of arithmetic whose result is float32."""
    for node in network.nodes:
        if node.target in ARITHMETIC and _is_float(node):
            node.args = tuple(float(value) if type(value) is int else value for value in node.args)


def _is_float(node: Node) -> bool:
    value = node.meta["val"]
    return isinstance(value, torch.Tensor) and value.is_floating_point()
