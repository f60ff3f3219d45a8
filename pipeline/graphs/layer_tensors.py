"""New tensors of a layer, computed from its own and from constants around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.fx import Node

from pipeline.graphs.flat import FlatNetwork


def computed(network: FlatNetwork, compute: Callable[..., torch.Tensor], sources: Sequence[Any]) -> torch.Tensor:
    """Return what ``compute`` makes of the constants that these nodes stand for; None stands for no constant."""
    with torch.no_grad():
        return compute(*map(network.constant, sources))


def own_tensor(
    network: FlatNetwork,
    layer: Node,
    index: int,
    name: str,
    compute: Callable[..., torch.Tensor],
    sources: Sequence[Any],
) -> Node:
    """Return a node for a new tensor of this layer alone, under the path of the one that it replaces."""
    old = layer.args[index] if len(layer.args) > index else None
    value = computed(network, compute, sources)
    if isinstance(old, Node) and len(old.users) == 1:
        network.change(old, value)
        node = old
    else:
        node = network.add_constant(name, value, layer)
    network.note(str(node.target), compute, sources)
    return node
