"""Adding operators to a flat network's graph."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from torch._dispatch.python import enable_python_dispatcher
from torch.fx import Node
from torch.fx.node import map_arg

from pipeline.networks.flat import FlatNetwork


def add_call(network: FlatNetwork, before: Node, operator: Any, *arguments: Any) -> Node:
    """Add an operator in front of another, in the same module, with the value that capture would have noted."""

    def value(node: Node) -> Any:
        constant = network.constant(node)  # rewriting may have given it another shape than was captured
        return node.meta["val"] if constant is None else before.meta["val"].fake_mode.from_tensor(constant)

    with before.graph.inserting_before(before):
        node = before.graph.call_function(operator, arguments)
    # As capture computes it. Otherwise C++ would ask for the size of a free batch, and the program that was captured,
    # which has the same symbol, would hold that one size for good.
    symbols = before.meta["val"].fake_mode.shape_env
    with enable_python_dispatcher(), nullcontext() if symbols is None else symbols.suppress_guards():
        node.meta = {"path": before.meta["path"], "val": operator(*map_arg(arguments, value))}
    return node


def sides(network: FlatNetwork, node: Any) -> tuple[int, ...]:
    """Return the shape of a node's tensor; a side that is free (the batch) is −1."""
    constant = network.constant(node)
    shape = (node.meta["val"] if constant is None else constant).shape
    return tuple(side if isinstance(side, int) else -1 for side in shape)
