"""Float values that are moved on the way into int8 while float arithmetic reads them as well."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import GraphModule, Node

from calibration.float_region import in_float_region
from calibration.tensor_keys import CONCATENATION, PASSING

MOVES = {*PASSING, CONCATENATION}

Grid = tuple[Any, ...]
"""Scale, zero point, least and largest value, type: the arguments of a quantize node after the tensor."""


def quantize_moved_values(graph: GraphModule) -> None:
    """Quantize such a value where it is moved first; changes the graph.

    ::

        softmax → slice → slice → quantize      →      softmax → slice → quantize → dequantize → slice → quantize
                        → multiply                                                             → multiply

    To move a value and to quantize it can change places, and LiteRT's converter lets them: it quantizes before the
    first slice. What else reads that slice then gets the quantized value, in LiteRT alone. Here both formats get it.
    A value that int8 reads by two scales is left as it is.
    """
    ahead: dict[Node, _Ahead] = {}
    for node in reversed(list(graph.graph.nodes)):
        if node.target not in MOVES:
            continue
        found = ahead[node] = _what_follows(node, ahead)
        if found.in_float and len(found.after_moves) == 1:
            _quantize(graph, node, next(iter(found.after_moves)))
            ahead[node] = _Ahead(grids=found.grids, after_moves=found.after_moves, in_float=False)
    graph.recompile()


@dataclass(frozen=True)
class _Ahead:
    """What becomes of a value: the scales it is quantized by, those around a further move, and who computes with it."""

    grids: frozenset[Grid]
    after_moves: frozenset[Grid]
    in_float: bool


def _what_follows(node: Node, ahead: dict[Node, _Ahead]) -> _Ahead:
    moved = [ahead[reader] for reader in node.users if reader.target in MOVES]
    others = [reader for reader in node.users if reader.target not in MOVES]
    quantizes = [reader for reader in others if _is_quantize(reader)]
    after_moves = frozenset(
        [grid for further in moved for grid in further.grids]
        + [tuple(reader.args[1:]) for reader in quantizes if _is_moved_then(reader)]
    )
    return _Ahead(
        grids=after_moves | {tuple(reader.args[1:]) for reader in quantizes},
        after_moves=after_moves,
        in_float=any(further.in_float for further in moved) or not all(map(_is_quantize, others)),
    )


def _is_moved_then(quantize: Node) -> bool:
    """Whether the quantized value is moved further, which is the same to the converter."""
    return any(reader.target in MOVES for value in quantize.users for reader in value.users)


def _quantize(graph: GraphModule, node: Node, grid: Grid) -> None:
    conversions: Any = torch.ops.quantized_decomposed
    readers = list(node.users)
    with graph.graph.inserting_after(node):
        quantized = graph.graph.call_function(conversions.quantize_per_tensor.default, (node, *grid))
    with graph.graph.inserting_after(quantized):
        value = graph.graph.call_function(conversions.dequantize_per_tensor.default, (quantized, *grid))
    for new in (quantized, value):
        new.meta = dict(node.meta)
    quantized.meta["val"] = node.meta["val"].to(torch.int8)
    for reader in readers:
        reader.replace_input_with(node, value)
    for reader in readers:  # what is int8 moves as int8: the converter drops a quantization before float arithmetic
        is_move = reader.target in PASSING and not in_float_region(reader)
        if is_move and not all(map(_is_quantize, reader.users)):
            _quantize(graph, reader, grid)


def _is_quantize(node: Node) -> bool:
    return "quantized_decomposed.quantize_per_tensor" in str(node.target)
