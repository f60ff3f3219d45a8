"""Values that are set where a mask or an index says so, as a choice.

::

    x[x < 0] = 0.1                →  where(x < 0, 0.1, x)
    x.index_fill(1, indices, 0.)  →  where(mask, 0, x)     the indices are constants
"""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node

from pipeline.graphs.arguments import arguments_of
from pipeline.graphs.flat import FlatNetwork
from pipeline.graphs.shapes import sides_of

aten: Any = torch.ops.aten

WRITES = {aten.index_put.default, aten.index_put_.default}


FILLS = {aten.index_fill.int_Scalar}


def writes_by_mask(network: FlatNetwork) -> None:
    """Rewrite writes of one number at a mask of the tensor's own shape, and fills at constant indices."""
    for node in network.nodes:
        if node.target in WRITES:
            _by_mask(network, node)
        elif node.target in FILLS:
            _by_index(network, node)
    network.clean()


def _by_mask(network: FlatNetwork, node: Node) -> None:
    source, masks, value, accumulate = arguments_of(node, None, None, None, False)
    number = network.constant(value)
    if node.target != aten.index_put.default or accumulate or len(masks) != 1 or number is None or number.numel() != 1:
        return
    (mask,) = masks
    if mask.meta["val"].dtype != torch.bool or sides_of(mask) != sides_of(source):
        return
    _choose(network, node, mask, float(number), source)


def _by_index(network: FlatNetwork, node: Node) -> None:
    source, axis, indices, value = arguments_of(node)
    chosen, shape = network.constant(indices), sides_of(source)
    if chosen is None or not isinstance(value, (int, float)) or shape[axis] < 0:
        return
    axis %= len(shape)
    mask = torch.zeros(shape[axis], dtype=torch.bool).index_fill(0, chosen.flatten(), True)
    held = network.add_constant("mask", mask.view(*[1] * axis, -1, *[1] * (len(shape) - axis - 1)), node)
    _choose(network, node, held, float(value), source)


def _choose(network: FlatNetwork, node: Node, mask: Node, value: float, source: Node) -> None:
    if node.meta["val"].dtype == torch.float32:
        arguments = (mask, value, source)
        network.redirect(node, network.add_call(aten.where.ScalarSelf, arguments, node, value=node.meta["val"]))
