"""Expansions, which LiteRT's converter gets wrong once it turns axes, as arithmetic that broadcasts itself.

::

    x + p.expand(N, −1, −1)                 →  x + p
    v * c.expand_as(v)                      →  v * c
    x.expand(…), read by something else     →  x + 1e-30 of the wider shape
"""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node

from pipeline.graphs.arithmetic import PRODUCTS, SUMS
from pipeline.graphs.flat import FlatNetwork
from pipeline.graphs.shapes import sides_of

aten: Any = torch.ops.aten

EXPANSIONS = {aten.expand.default, aten.expand_as.default, aten.broadcast_to.default}


NOTHING = 1e-30
"""Changes no value, and is not folded away: of 0, or of a product with 1, LiteRT's converter makes an int8 operator."""


def drop_expansions(network: FlatNetwork) -> None:
    """Let arithmetic broadcast itself.

    LiteRT's converter turns the axes of what it broadcasts, but not of the shape that it broadcasts to. Where something
    else reads the broadcast, it is a sum with values too small to change any.
    """
    for node in network.nodes:
        if node.target not in SUMS | PRODUCTS:
            continue
        for source in node.all_input_nodes:
            others = [other for other in node.all_input_nodes if other is not source]
            same = any(sides_of(other) == sides_of(node) for other in others)
            if source.target in EXPANSIONS and same:
                node.replace_input_with(source, source.all_input_nodes[0])
    for node in network.nodes:
        if node.target in EXPANSIONS and (sides := _expanded(network, node)) is not None:
            nothing = network.add_constant("nothing", torch.full(sides, NOTHING), node)
            broadcast = (node.all_input_nodes[0], nothing)
            network.redirect(node, network.add_call(aten.add.Tensor, broadcast, node, value=node.meta["val"]))
    network.clean()


def _expanded(network: FlatNetwork, node: Node) -> list[int] | None:
    """Return how often an expansion repeats each axis; None where it is of a constant, of the batch, or adds axes."""
    source = node.all_input_nodes[0]
    if network.constant(source) is not None or not node.meta["val"].is_floating_point():
        return None
    before, after = sides_of(source), sides_of(node)
    if len(before) != len(after) or before[0] != after[0]:
        return None
    return [1 if one == other else other for one, other in zip(before, after, strict=True)]
