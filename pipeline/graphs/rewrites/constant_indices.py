"""Positions of an axis that a constant lists, as slices and a concatenation.

::

    index_select(x, axis, constant), x[:, constant]   →   slice, slice, … → cat

ExecuTorch would compute the index when the file runs, outside the delegate.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node

from pipeline.graphs.flat import FlatNetwork
from pipeline.graphs.picks import picks
from pipeline.graphs.shapes import shape_of

aten: Any = torch.ops.aten


def pick_by_constants(network: FlatNetwork) -> None:
    """Replace ``index_select``, and an index of one axis, by a pick where the positions are a constant."""
    for node in network.nodes:
        if (found := _constant_positions(network, node)) is None:
            continue
        axis, positions = found
        side = shape_of(node.args[0])[axis]
        if (unit := picks([(axis, [int(i) % side for i in positions])])) is not None:
            network.replace(node, unit, node.all_input_nodes[0], "pick")
    network.clean()


def _constant_positions(network: FlatNetwork, node: Node) -> tuple[int, list[int]] | None:
    axis: Any
    index: Any
    if node.target == aten.index_select.default:
        axis, index = node.args[1:3]
    elif node.target == aten.index.Tensor:
        indices: Any = node.args[1]
        given = [(axis, index) for axis, index in enumerate(indices) if index is not None]
        if len(given) != 1:
            return None
        axis, index = given[0]
    else:
        return None
    positions = network.constant(index)
    if positions is None or positions.dim() != 1 or positions.is_floating_point() or positions.dtype == torch.bool:
        return None
    return axis % len(shape_of(node.args[0])), positions.tolist()
