"""The many names of "exchange axes" (``x.mT``, ``x.T``, ``swapaxes``, ``moveaxis``) as ``transpose`` and ``permute``.

::

    x.mT, x.T, swapaxes(x, 1, 2)   →   transpose(x, 1, 2)
    moveaxis(x, 1, 3)              →   permute(x, (0, 2, 3, 1))

Rewrites, delegates and the annotation of int8 tensors know these two only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.fx import Node

from pipeline.graphs.arguments import arguments_of
from pipeline.graphs.flat import FlatNetwork

aten: Any = torch.ops.aten


def plain_turns(network: FlatNetwork) -> None:
    """Rewrite every operator that only reorders axes; complex tensors, which have a conjugate, are left alone."""
    for node in network.nodes:
        if node.target not in TURNS or node.kwargs or _is_complex(node):
            continue
        source, rank = node.args[0], node.meta["val"].dim()
        order = TURNS[node.target](node, rank)
        if order == list(range(rank)):
            network.redirect(node, source)  # type: ignore[arg-type]
            continue
        moved = [axis for axis in range(rank) if order[axis] != axis]
        if len(moved) == 2:
            node.target, node.args = aten.transpose.int, (source, *moved)
        else:
            node.target, node.args = aten.permute.default, (source, order)
    network.clean()


def _is_complex(node: Node) -> bool:
    return bool(node.meta["val"].dtype.is_complex)


def _last_two(_node: Node, rank: int) -> list[int]:
    order = list(range(rank))
    return [*order[:-2], rank - 1, rank - 2]


def _all(_node: Node, rank: int) -> list[int]:
    return list(reversed(range(rank)))


def _exchanged(node: Node, rank: int) -> list[int]:
    order = list(range(rank))
    _, one, other = arguments_of(node)
    order[one], order[other] = order[other], order[one]
    return order


def _moved(node: Node, rank: int) -> list[int]:
    """As ``torch.movedim``: the axes that are not named keep their order."""
    _, source, target = arguments_of(node)
    sources, targets = ([axes] if isinstance(axes, int) else list(axes) for axes in (source, target))
    places = dict(zip((axis % rank for axis in targets), (axis % rank for axis in sources), strict=True))
    rest = iter(axis for axis in range(rank) if axis not in places.values())
    return [places[axis] if axis in places else next(rest) for axis in range(rank)]


TURNS: dict[Any, Callable[[Node, int], list[int]]] = {
    **dict.fromkeys((aten.mT.default, aten.mH.default, aten.adjoint.default), _last_two),
    **dict.fromkeys((aten.t.default, aten.numpy_T.default, aten.matrix_H.default), _all),
    **dict.fromkeys((aten.swapaxes.default, aten.swapdims.default), _exchanged),
    **dict.fromkeys((aten.moveaxis.int, aten.moveaxis.intlist, aten.movedim.int, aten.movedim.intlist), _moved),
}
"""Which axis of the input stands at each place of the result."""
