"""Which nodes of a graph may share memory."""

from __future__ import annotations

from operator import getitem

from torch.fx import Node

from pipeline.compat.torch import gives_views


def aliases_of(node: Node, writer: Node) -> set[Node]:
    """Return all nodes that may share memory with this one: what it is a view of, and its views, less the writer's."""
    base = node
    while is_view(base):
        base = base.all_input_nodes[0]
    found, left = {base}, [base]
    while left:
        for reader in left.pop().users:
            if is_view(reader) and reader not in found and reader is not writer:
                found.add(reader)
                left.append(reader)
    return found


def is_view(node: Node) -> bool:
    """Whether a node's tensor is part of the memory of what it reads."""
    if node.target is getitem:
        return True
    return bool(node.all_input_nodes) and gives_views(node.target)
