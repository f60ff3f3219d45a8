"""Casts that do nothing in a float32 network.

::

    x.float(), y.type_as(x)            →   x, y
    softmax(x, dtype=torch.float32)    →   softmax(x)

Left in, they pin float32 in a network that is captured again in float16 or float64.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node

from pipeline.graphs.flat import FlatNetwork

aten: Any = torch.ops.aten

CASTS = {
    aten.to.dtype, aten.to.dtype_layout, aten.to.device, aten.to.other, aten.type_as.default, aten._to_copy.default,
    aten.detach.default,
}  # fmt: skip

TYPED = {
    aten.softmax.int: 2, aten.log_softmax.int: 2, aten.sum.dim_IntList: 3, aten.sum.default: 1, aten.mean.dim: 3,
    aten.mean.default: 1, aten.cumsum.default: 2,
}  # fmt: skip
"""Operators that convert their input first, and where among their arguments the type stands."""


def drop_idle_casts(network: FlatNetwork) -> None:
    """Drop casts to the type that a tensor has already."""
    for node in network.nodes:
        if node.target in CASTS and _dtype(node) == _dtype(node.args[0]) is not None:
            source: Any = node.args[0]
            network.redirect(node, source)
        elif node.target in TYPED:
            _drop_type(node, TYPED[node.target])
    network.clean()


def _drop_type(node: Node, index: int) -> None:
    if _dtype(node.args[0]) != _dtype(node):
        return
    node.args = tuple(None if i == index else value for i, value in enumerate(node.args))
    node.kwargs = {name: value for name, value in node.kwargs.items() if name != "dtype"}


def _dtype(node: Any) -> torch.dtype | None:
    value = node.meta.get("val") if isinstance(node, Node) else None
    return value.dtype if isinstance(value, torch.Tensor) else None
