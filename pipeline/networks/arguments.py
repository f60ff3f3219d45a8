"""The arguments and shapes of a graph's operators, as rewrites read them."""

from __future__ import annotations

from typing import Any

from torch.fx import Node


def with_defaults(node: Node, *defaults: Any) -> tuple[Any, ...]:
    """Return an operator's leading arguments. A graph leaves out those that have their default."""
    given = list(node.args)
    names = [argument.name for argument in node.target._schema.arguments]  # type: ignore[union-attr]
    return tuple(
        given[i] if i < len(given) else node.kwargs.get(names[i], default) for i, default in enumerate(defaults)
    )


def shape_of(value: Any) -> tuple[int, ...]:
    """Return the shape of a node's tensor; the batch, which may be free, is −1."""
    shape = value.meta["val"].shape
    return (-1, *(int(side) for side in shape[1:]))
