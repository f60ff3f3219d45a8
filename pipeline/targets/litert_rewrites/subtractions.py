"""Subtractions from a number, which LiteRT's converter gets wrong, in a form that it gets right."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import GraphModule

from pipeline.graphs.arguments import arguments_of

aten: Any = torch.ops.aten


def plain_subtractions(graph: GraphModule) -> None:
    """Replace ``rsub``, of which the converter makes ``x − n``; changes the graph.

    ::

        rsub(x, n, times)   →   mul(x, −times) → add(n)
    """
    for node in list(graph.graph.nodes):
        if node.target != aten.rsub.Scalar:
            continue
        source, number, times = arguments_of(node, None, None, 1)
        with graph.graph.inserting_before(node):
            negative = graph.graph.call_function(aten.mul.Tensor, (source, -float(times)))
            result = graph.graph.call_function(aten.add.Tensor, (negative, float(number)))
        negative.meta, result.meta = dict(node.meta), dict(node.meta)
        node.replace_all_uses_with(result)
        graph.graph.erase_node(node)
    graph.recompile()
