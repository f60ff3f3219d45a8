"""Tensors that are stacked and taken apart again, as operators that all runtimes have.

::

    unbind(x, axis)[i]           →  select(x, axis, i)
    unbind(stack((a, b), axis))  →  a, b
    stack((a, b), axis)          →  cat((unsqueeze(a), unsqueeze(b)), axis)

What is joined has one int8 scale, which a graph with ``stack`` in it would not say.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node

from pipeline.graphs.arguments import arguments_of
from pipeline.graphs.flat import FlatNetwork

aten: Any = torch.ops.aten


def plain_stacks(network: FlatNetwork) -> None:
    """Replace each ``unbind`` and ``stack``."""
    for node in network.nodes:
        if node.target == aten.unbind.int:
            _take_apart(network, node)
    for node in network.nodes:
        if node.target == aten.stack.default:
            _join(network, node)
    network.clean()


def _take_apart(network: FlatNetwork, node: Node) -> None:
    source, axis = arguments_of(node, None, 0)
    axis %= source.meta["val"].dim()
    is_stack = source.target == aten.stack.default
    parts, along = arguments_of(source, None, 0) if is_stack else ([], 0)
    for reader in list(node.users):
        index: Any = reader.args[1]
        if is_stack and along % source.meta["val"].dim() == axis:
            network.redirect(reader, parts[index])
        else:
            network.redirect(reader, network.add_call(aten.select.int, (source, axis, index), reader))


def _join(network: FlatNetwork, node: Node) -> None:
    tensors, axis = arguments_of(node, None, 0)
    axis %= node.meta["val"].dim()
    parts = [network.add_call(aten.unsqueeze.default, (tensor, axis), node) for tensor in tensors]
    network.redirect(node, network.add_call(aten.cat.default, (parts, axis), node, value=node.meta["val"]))
