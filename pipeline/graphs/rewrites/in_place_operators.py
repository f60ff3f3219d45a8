"""Operators that overwrite their input (``relu_``), as those that do not.

::

    relu_(x);  read x   →   y = relu(x);  read y
"""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node

from pipeline.compat.torch import is_operator, operator_name, same_overload
from pipeline.graphs.aliases import aliases_of
from pipeline.graphs.flat import FlatNetwork

aten: Any = torch.ops.aten


def make_functional(network: FlatNetwork) -> None:
    """Write operators that overwrite their input (``relu_``) as those that do not.

    Whoever read the input afterwards reads the result. One that writes into a part of a larger tensor stays.
    """
    order = {node: i for i, node in enumerate(network.nodes)}
    for node in network.nodes:
        functional = _functional(node)
        if functional is None:
            continue
        written = node.args[0]
        assert isinstance(written, Node)
        others = aliases_of(written, node) - {written}
        if any(order[reader] > order[node] for alias in others for reader in alias.users):
            continue
        node.target = functional
        for reader in [reader for reader in written.users if order[reader] > order[node]]:
            reader.replace_input_with(written, node)


def _functional(node: Node) -> Any:
    """Return the operator that computes the same without overwriting its first input, if this one does."""
    if node.op != "call_function" or not is_operator(node.target):
        return None
    name = operator_name(node.target).removeprefix("aten::")
    packet = getattr(aten, name[:-1], None) if name.endswith("_") and not name.endswith("__") else None
    return same_overload(packet, node.target)
