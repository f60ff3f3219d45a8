"""What an int8 network computes in float between int8 tensors: attention, layer norms, arithmetic with constants."""

from __future__ import annotations

from torch.fx import GraphModule, Node

from calibration.annotate import TensorKeys, in_network, is_float
from calibration.recipe import Recipe


def float_islands(graph: GraphModule, recipe: Recipe) -> tuple[Node, ...]:
    """Return the operators of a captured graph that int8 files compute in float, in order, layers included.

    Operators on parameters alone and what runs in front of the first int8 tensor are none.
    """
    keys = TensorKeys(graph, recipe)
    behind_int8: set[Node] = set()
    found: list[Node] = []
    for node in graph.graph.nodes:
        if node.op != "call_function" or not in_network(node):
            continue
        if keys.is_quantized(node) or keys.is_fused(node):
            behind_int8.add(node)
        elif not behind_int8.isdisjoint(node.all_input_nodes):
            behind_int8.add(node)
            if is_float(node):
                found.append(node)
    return tuple(found)
