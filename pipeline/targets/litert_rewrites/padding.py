"""Maximum pooling in the one form that LiteRT's converter gives to its delegate."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import GraphModule, Node

aten = torch.ops.aten

TO_CHANNELS_LAST, TO_CHANNELS_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
NOT_NEGATIVE = {
    aten.relu.default, aten.relu_.default, aten.relu6.default, aten.relu6_.default, aten.sigmoid.default,
}  # fmt: skip
KEEPING_SIGN = {
    aten.max_pool2d.default, aten.permute.default, aten.cat.default, aten.slice.Tensor, aten.dropout.default,
}  # fmt: skip


def pad_before_pooling(graph: GraphModule) -> GraphModule:
    """Move the padding of ``max_pool2d`` in front of it, as zeros in channels-last form; changes the graph.

    ::

        relu → max_pool2d(padding=1)   →   relu → permute → pad(0) → permute → max_pool2d(padding=0)

    Only where no value is negative, so that zeros win no maximum. Left alone, the converter pads with −∞ in a PADV2,
    which XNNPACK does not take. Same-size pooling (stride 1) needs no padding operator in the file.
    """
    for node in list(graph.graph.nodes):
        if node.op == "call_function" and node.target == aten.max_pool2d.default and _pads(node) and _is_positive(node):
            _pad_before(graph, node)
    graph.recompile()
    return graph


def _pads(node: Node) -> bool:
    kernel, stride, padding = (_pair(node, index) for index in (1, 2, 3))
    same_size = stride == (1, 1) and all(k == 2 * p + 1 for k, p in zip(kernel, padding, strict=True))
    return padding != (0, 0) and not same_size


def _is_positive(node: Node) -> bool:
    sources = node.all_input_nodes
    return all(
        source.target in NOT_NEGATIVE or (source.target in KEEPING_SIGN and _is_positive(source)) for source in sources
    )


def _pad_before(graph: GraphModule, node: Node) -> None:
    high, wide = _pair(node, 3)
    with graph.graph.inserting_before(node):
        last = _call(graph, node, aten.permute.default, (node.args[0], TO_CHANNELS_LAST))
        padded = _call(graph, node, aten.constant_pad_nd.default, (last, (0, 0, wide, wide, high, high), 0.0))
        first = _call(graph, node, aten.permute.default, (padded, TO_CHANNELS_FIRST))
    rest = list(node.args[4:])
    node.args = (first, node.args[1], node.args[2], [0, 0], *rest)


def _call(graph: GraphModule, beside: Node, target: Any, arguments: tuple[Any, ...]) -> Node:
    """A new node in the same module as ``beside``, with the value that capture would have noted."""
    node = graph.graph.call_function(target, arguments)
    node.meta = {key: value for key, value in beside.meta.items() if key in ("nn_module_stack", "stack_trace")}
    source = arguments[0]
    node.meta["val"] = target(source.meta["val"], *arguments[1:])
    return node


def _pair(node: Node, index: int) -> tuple[int, int]:
    """An argument of ``max_pool2d`` for both axes: one number serves both; stride defaults to the kernel."""
    if index >= len(node.args):
        return (0, 0) if index == 3 else _pair(node, 1)
    values: Any = node.args[index]
    values = [values] if isinstance(values, int) else list(values) or list(_pair(node, 1))
    return (values[0], values[-1])
