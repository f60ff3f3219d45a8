"""How much memory the values of a network take, known before it is run for the first time."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Interpreter, Node

from pipeline.compat.torch import tensors_in, without_memory
from pipeline.graphs.flat import FlatNetwork


def peak_bytes(network: FlatNetwork, shape: tuple[int, int, int, int]) -> int:
    """Return the most bytes that the values of an input ``[N, 3, H, W]`` take at a time; nothing is computed.

    Parameters are not counted. A value is there from its operator to the last one that reads it.

    Raises:
        Exception: whatever torch raises for a graph whose shapes depend on values, or do not fit each other.
    """
    with without_memory():
        sizes = _Sizes(network)
        sizes.run(torch.empty(shape))
    last = {source: node for node in network.graph.nodes for source in node.all_input_nodes}
    alive = peak = 0
    for node in network.graph.nodes:
        alive += sizes.bytes.get(node, 0)
        peak = max(peak, alive)
        alive -= sum(sizes.bytes.get(source, 0) for source in node.all_input_nodes if last[source] is node)
    return peak


class _Sizes(Interpreter):
    """Runs a graph on tensors without values, and keeps the size of what each operator gives."""

    def __init__(self, network: FlatNetwork) -> None:
        super().__init__(network)
        self.bytes: dict[Node, int] = {}

    def run_node(self, n: Node) -> Any:
        value = super().run_node(n)
        if n.op not in ("get_attr", "output"):
            self.bytes[n] = sum(tensor.numel() * tensor.element_size() for tensor in tensors_in(value))
        return value
