"""Which operators of a quantized graph compute in float: between int8 tensors, or because a recipe says so."""

from __future__ import annotations

from typing import Any

from torch.fx import GraphModule, Node

from calibration.tensor_keys import (
    ARITHMETIC,
    BINARY,
    CONCATENATION,
    FUSED_ACTIVATIONS,
    PASSING,
    WEIGHTED,
    in_network,
    is_float,
    module_path,
)

IN_INT8 = {*WEIGHTED, *ARITHMETIC, CONCATENATION}
"""What computes on integers in every runtime, given int8 tensors; anything else between two of them is in float."""


def float_operators(quantized: GraphModule) -> tuple[str, ...]:
    """Return the network's operators that compute in float, as ``module path:operator``, in the order of the graph.

    ``quantized`` is what ``calibration.quantize.quantize`` made. An operator of ``IN_INT8`` computes in int8 where
    every float tensor that it reads is a dequantized one and its result is quantized at once, perhaps after the
    activation fused with it.
    The front end (the normalisation) is not counted, and neither is what only moves values.
    """
    return tuple(dict.fromkeys(_name(node) for node in quantized.graph.nodes if computes_in_float(node)))


def computes_in_float(node: Node) -> bool:
    """Whether a node of a quantized graph is one of these operators."""
    return _computes(node) and not _is_integer(node)


def _computes(node: Node) -> bool:
    if node.op != "call_function" or not in_network(node) or _is_conversion(node):
        return False
    return is_float(node) and node.target not in PASSING and bool(float_sources(node))


def _is_integer(node: Node) -> bool:
    two = node.target in WEIGHTED | BINARY  # a float weight, a number or a constant between int8 tensors
    if two and not all(map(_is_conversion, node.args[:2])):
        return False
    if node.target not in IN_INT8 or not all(_is_conversion(source) for source in float_sources(node)):
        return False
    readers = list(node.users)
    if len(readers) == 1 and readers[0].target in FUSED_ACTIVATIONS:
        readers = list(readers[0].users)
    return bool(readers) and all("quantize_per_tensor" in str(reader.target) for reader in readers)


def float_sources(node: Node) -> list[Node]:
    """Return the activations that an operator reads: no parameters, which are constants of the graph."""
    return [source for source in node.all_input_nodes if is_float(source) or _is_conversion(source)]


def _is_conversion(node: Any) -> bool:
    return isinstance(node, Node) and "quantize_per_" in str(node.target)  # dequantize_per_tensor and _per_channel too


def _name(node: Node) -> str:
    target: Any = node.target
    packet = getattr(target, "overloadpacket", target)
    return f"{module_path(node)}:{getattr(packet, '__name__', packet)}"
