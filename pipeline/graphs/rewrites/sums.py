"""Sums and lengths over axes, by means, which every delegate takes.

::

    x.sum(axes)                   →  x.mean(axes) · n
    vector_norm(x, 2, axes)       →  √((x · x).mean(axes) · n)
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.fx import Node

from pipeline.graphs.arguments import arguments_of
from pipeline.graphs.flat import FlatNetwork

aten: Any = torch.ops.aten


def plain_sums(network: FlatNetwork) -> None:
    """Replace them where the batch is not summed over."""
    for node in network.nodes:
        if node.target == aten.sum.dim_IntList:
            source, axes, keep = arguments_of(node, None, None, False)
            if count := _count(node, source, axes):
                network.redirect(node, _sum(network, node, source, axes, keep, count))
        elif node.target == aten.linalg_vector_norm.default:
            source, order, axes, keep = arguments_of(node, None, 2, None, False)
            if order == 2 and (count := _count(node, source, axes)):
                square = network.add_call(aten.mul.Tensor, (source, source), node)
                total = _sum(network, node, square, axes, keep, count)
                network.redirect(node, network.add_call(aten.sqrt.default, (total,), node, value=node.meta["val"]))
    network.clean()


def _sum(network: FlatNetwork, node: Node, source: Node, axes: list[int], keep: bool, count: int) -> Node:
    value = node.meta["val"]
    mean = network.add_call(aten.mean.dim, (source, list(axes), bool(keep)), node, value=value)
    return network.add_call(aten.mul.Tensor, (mean, float(count)), node, value=value)


def _count(node: Node, source: Any, axes: Any) -> int:
    """How many values are summed up to one; 0 where that is not known, or not for one image alone."""
    value, given = node.meta["val"], source.meta.get("val")
    if not axes or node.kwargs or given is None or value.dtype != given.dtype or not value.is_floating_point():
        return 0
    places = {axis % given.dim() for axis in axes}
    sides = [given.shape[place] for place in places]
    return 0 if 0 in places or not all(isinstance(side, int) for side in sides) else math.prod(sides)
