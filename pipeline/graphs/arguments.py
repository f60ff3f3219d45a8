"""The arguments and shapes of a graph's operators, as rewrites read them."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node


def with_defaults(node: Node, *defaults: Any) -> tuple[Any, ...]:
    """Return an operator's leading arguments. A graph leaves out those that have their default."""
    given = list(node.args)
    names = [argument.name for argument in node.target._schema.arguments]  # type: ignore[union-attr]
    return tuple(
        given[i] if i < len(given) else node.kwargs.get(names[i], default) for i, default in enumerate(defaults)
    )


class FreeSide(Exception):
    """Images lie along another axis than the first, as in attention with tokens in front, ``[T, N, C]``."""


def shape_of(value: Any) -> tuple[int, ...]:
    """Return the shape of a node's tensor; the first axis, along which images may lie, is −1.

    Raises:
        FreeSide: images lie along another axis.
    """
    return (-1, *map(_length, value.meta["val"].shape[1:]))


def _length(side: int | torch.SymInt) -> int:
    """Return a side as a number. ``int()`` of a free one would fix it in the whole graph."""
    length = side if isinstance(side, int) else side.node.maybe_as_int()
    if length is None:
        raise FreeSide
    return int(length)
