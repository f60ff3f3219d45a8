"""Softmax between int8 tensors, which LiteRT's converter would compute in int8 by a scale that its kernel refuses."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import GraphModule, Node

from calibration.moved import MOVES

aten: Any = torch.ops.aten

SHIFT = 1.0
"""Any number would do: softmax(x + c) = softmax(x)."""


def keep_softmax_in_float(graph: GraphModule) -> None:
    """Add a number to what such a softmax reads; changes the graph.

    The converter makes an int8 operator of every softmax that reads int8 values and whose result is quantized, in its
    strict mode too. Its kernel takes no output scale but 1/256: the file cannot be loaded. The sum with a number stays
    in float, and with it what reads it.
    """
    for node in list(graph.graph.nodes):
        if node.target != aten.softmax.int or not _is_dequantized(node.args[0]):
            continue
        source = node.args[0]
        with graph.graph.inserting_before(node):
            shifted = graph.graph.call_function(aten.add.Tensor, (source, SHIFT))
        shifted.meta = dict(source.meta)
        node.update_arg(0, shifted)
    graph.recompile()


def _is_dequantized(node: Node) -> bool:
    while node.target in MOVES:
        node = node.all_input_nodes[0]
    return "dequantize_per_tensor" in str(node.target)
