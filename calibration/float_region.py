"""Modules whose operators stay in float in an int8 file, because int8 steps between them would cost accuracy."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn
from torch.fx import GraphModule, Node

from calibration.compat.torch import modules_around


class FloatRegion(nn.Module):
    """Base class of modules that compute in float between an int8 input and an int8 output.

    ::

        int8 → dequantize → exp → log → … → quantize → int8

    Operators are recognised by the classes of the modules that wrote them, which a capture records by name.
    """

    NAMES: ClassVar[set[str]] = set()

    def __init_subclass__(cls) -> None:
        """Register the subclass under the name that a capture records."""
        super().__init_subclass__()
        FloatRegion.NAMES.add(f"{cls.__module__}.{cls.__qualname__}")


def in_float_region(node: Node) -> bool:
    """Whether an operator was written by a module that computes in float."""
    return any(module.kind in FloatRegion.NAMES for module in modules_around(node))


def dequantize_for_each_reader(graph: GraphModule) -> None:
    """Give every float region, and every other operator, a dequantize node of its own; changes the graph.

    Where two share one, the passes by which ExecuTorch and LiteRT put channels last turn the axes of one reader's
    tensor for the other too: they fail, or the file computes something else. So they do where a comparison, which no
    delegate takes, cuts a region in two; its operators get nodes of their own.
    """
    cut = {_region(node) for node in graph.graph.nodes if _is_comparison(node)}
    for node in list(graph.graph.nodes):
        if "dequantize_per_tensor" not in str(node.target):
            continue
        taken: dict[object, Node] = {}
        for reader in list(node.users):
            region = _region(reader)
            region = reader if region in cut else region
            if not taken:
                taken[region] = node
            elif region not in taken:
                with graph.graph.inserting_after(node):
                    taken[region] = graph.graph.node_copy(node)
            if taken[region] is not node:
                reader.replace_input_with(node, taken[region])
    graph.recompile()


def _is_comparison(node: Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.dtype == torch.bool


def _region(node: Node) -> object:
    """The path of an operator's float region; outside one the operator itself."""
    paths = [module.path for module in modules_around(node) if module.kind in FloatRegion.NAMES]
    return paths[0] if paths else node
