"""Largest and smallest values, by operators that runtimes have.

::

    max(x, axis)[0]              →  amax(x, axis)             where nobody reads the positions
    adaptive_max_pool2d(x, size) →  max_pool2d                where all its windows are of one size; 1d alike
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch.fx import Node

from pipeline.graphs.arguments import shape_of, with_defaults
from pipeline.graphs.flat import FlatNetwork

aten: Any = torch.ops.aten

REDUCTIONS = {aten.max.dim: aten.amax.default, aten.min.dim: aten.amin.default}

ADAPTIVE = {
    aten.adaptive_max_pool1d.default: aten.max_pool1d.default,
    aten.adaptive_max_pool2d.default: aten.max_pool2d.default,
}


def plain_maxima(network: FlatNetwork) -> None:
    """Replace them all. XNNPACK takes ``max`` over any axis, and fails over others than H and W."""
    for node in network.nodes:
        if not all(reader.target is operator.getitem and reader.args[1] == 0 for reader in node.users):
            continue
        if node.target in REDUCTIONS:
            source, axis, keep = with_defaults(node, None, None, False)
            _replace(network, node, REDUCTIONS[node.target], (source, [axis], bool(keep)))
        elif node.target in ADAPTIVE and (window := _window(node)):
            _replace(network, node, ADAPTIVE[node.target], (node.args[0], window, window))
    network.clean()


def _replace(network: FlatNetwork, node: Node, by: Any, arguments: tuple[Any, ...]) -> None:
    new = network.add_call(by, arguments, node)
    for reader in list(node.users):
        network.redirect(reader, new)


def _window(node: Node) -> list[int] | None:
    source, size = with_defaults(node, None, None)
    sides = shape_of(source)[2:]
    bins = [side if wanted is None else int(wanted) for side, wanted in zip(sides, size, strict=True)]
    if any(side % count for side, count in zip(sides, bins, strict=True)):
        return None
    return [side // count for side, count in zip(sides, bins, strict=True)]
