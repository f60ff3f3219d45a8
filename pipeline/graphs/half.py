"""A copy of a network that computes in float16, as fp16 files do.

``Module.half()`` changes parameters and buffers only. What else is float32 in a network would stay so, and meet float16
in an operator that takes one of them: casts (``x.float()``), the ``dtype`` of a softmax, tensors that are made in the
forward. And numbers beyond ±65,504 (−1e9 in a mask) would become infinite, or be refused by a kernel.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import nn
from torch.fx import Node
from torch.fx.node import map_aggregate

from pipeline.compat.torch import is_operator, named_only
from pipeline.graphs.flat import FlatNetwork

LARGEST = float(torch.finfo(torch.float16).max)


def half(module: nn.Module) -> nn.Module:
    """Return a copy of a module, and of the flat networks in it, in float16."""
    found = copy.deepcopy(module)
    with torch.no_grad():
        for tensor in (*found.parameters(), *found.buffers()):
            if tensor.is_floating_point():
                tensor.masked_fill_(torch.isfinite(tensor) & (tensor > LARGEST), LARGEST)
                tensor.masked_fill_(torch.isfinite(tensor) & (tensor < -LARGEST), -LARGEST)
    for part in found.modules():
        for name, value in list(vars(part).items()):
            if type(value) is float:
                setattr(part, name, _half(value))
        if isinstance(part, FlatNetwork):
            for node in part.nodes:
                node.args = map_aggregate(node.args, _half)
                node.kwargs = map_aggregate(node.kwargs, _half)
                if _makes_float32(node):
                    node.kwargs = {**node.kwargs, "dtype": torch.float16}
    return found.half()


def _makes_float32(node: Node) -> bool:
    """Whether an operator makes a tensor of the default type out of sizes (``torch.zeros(n, 4)``)."""
    if not is_operator(node.target) or node.kwargs.get("dtype") is not None:
        return False
    typed = "dtype" in named_only(node.target)
    reads = any(isinstance(source.meta.get("val"), torch.Tensor) for source in node.all_input_nodes)
    return typed and not reads and getattr(node.meta["val"], "dtype", None) == torch.float32


def _half(value: Any) -> Any:
    """float16 for float32; a number within float16's range, infinities as they are."""
    if value is torch.float32:
        return torch.float16
    if type(value) is float and math.isfinite(value) and abs(value) > LARGEST:
        return math.copysign(LARGEST, value)
    return value
