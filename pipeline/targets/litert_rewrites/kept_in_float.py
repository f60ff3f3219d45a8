"""Operators that stay in float between int8 tensors, kept so by LiteRT's converter."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import GraphModule, Node

from calibration.float_operators import computes_in_float, float_sources
from calibration.float_region import in_float_region
from calibration.moved import MOVES
from calibration.tensor_keys import BINARY, WEIGHTED
from pipeline.graphs.rewrites.expansions import NOTHING

aten: Any = torch.ops.aten

EQUAL = {aten.tanh.default, aten.sub.Tensor, aten.neg.default, aten.abs.default, aten.max_pool2d.default}
"""The runtime's int8 kernels of these give, to the bit, what float arithmetic gives once quantized."""

ONE_SCALE = {
    aten.minimum.default, aten.maximum.default, aten.min.other, aten.max.other, aten.amin.default, aten.amax.default,
    aten.where.self, aten.where.ScalarOther, aten.where.ScalarSelf, aten.masked_fill.Scalar,
    aten.upsample_bilinear2d.vec, aten.upsample_bilinear2d.default,
    aten.upsample_nearest2d.vec, aten.upsample_nearest2d.default,
}  # fmt: skip
"""The converter gives all tensors of these the scale of one of them, whichever it finds: a number on every side."""

WITH_NUMBERS = {*BINARY, aten.sub.Tensor, aten.rsub.Scalar, aten.div.Tensor}


def keep_in_float(graph: GraphModule) -> None:
    """Add a number to what such operators read, or give; changes the graph.

    ::

        dequantize → softmax → quantize      →      dequantize → add 1e-30 → softmax → quantize

    The converter makes an int8 operator of whatever stands between int8 tensors and has an int8 kernel, in its strict
    mode too. Sums round by rules of their own, minima, maxima and resizing take the scale of another
    tensor (28 to 34 dB), and softmax takes no output scale but 1/256: the file cannot be loaded. An operator with a
    number stays in float, and with it what reads it. Layers with float weights
    and float regions need no help.
    """
    for node in list(graph.graph.nodes):
        if node.target in EQUAL | WEIGHTED or in_float_region(node) or not computes_in_float(node):
            continue
        for source in _to_be_kept(node):
            node.replace_input_with(source, _added_to(graph, source, node))
        if node.target in ONE_SCALE:
            kept = _added_to(graph, node, node.next)
            for reader in [reader for reader in node.users if reader is not kept]:
                reader.replace_input_with(node, kept)
    graph.recompile()


def _added_to(graph: GraphModule, value: Node, before: Node) -> Node:
    with graph.graph.inserting_before(before):
        kept = graph.graph.call_function(aten.add.Tensor, (value, NOTHING))
    kept.meta = dict(value.meta)
    return kept


def _to_be_kept(node: Node) -> list[Node]:
    """Which sources of an operator need it: one is enough where the converter looks at all sides."""
    sources = [source for source in float_sources(node) if _is_dequantized(source)]
    if node.target in ONE_SCALE:
        return sources
    is_kept = len(sources) < len(float_sources(node)) or (node.target in WITH_NUMBERS and len(sources) < 2)
    return [] if is_kept or not _is_quantized(node) else sources[:1]


def _is_dequantized(node: Node) -> bool:
    while node.target in MOVES:
        node = node.all_input_nodes[0]
    return "dequantize_per_tensor" in str(node.target)


def _is_quantized(node: Node) -> bool:
    return any(
        _is_quantized(reader) if reader.target in MOVES else "quantize_per_tensor" in str(reader.target)
        for reader in node.users
    )
