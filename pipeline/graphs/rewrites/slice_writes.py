"""Writes into a part of a tensor, as the tensor that comes of them.

::

    part = y[:, :, 1:];  part.copy_(z);  read y   →   slice(y, :1), z → cat;  read the result
    y[:, 0].add_(1)                               →   select → add → unsqueeze → with the rest of y → cat

An exported program would keep such writes as ``slice_scatter`` and ``copy``, which no delegate takes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node

from pipeline.compat.torch import gives_views, same_overload
from pipeline.graphs.arguments import arguments_of
from pipeline.graphs.flat import FlatNetwork, writes
from pipeline.graphs.picks import MOST_JOINED, MOST_RUNS, runs
from pipeline.graphs.shapes import shape_of

aten: Any = torch.ops.aten

FILLS = {aten.copy_.default, aten.fill_.Scalar, aten.fill_.Tensor, aten.zero_.default}


RESHAPES = {aten.reshape.default, aten.view.default, aten.flatten.using_ints, aten.squeeze.dim, aten.unsqueeze.default}

TURNS = {aten.permute.default, aten.transpose.int}


def make_slice_writes_functional(network: FlatNetwork) -> None:
    """Replace each write into a view by a new tensor, for all who read the base or another view of it afterwards.

    Left alone: a write into a view of a kind that has no inverse here (``chunk``, ``diagonal``), or into a parameter.
    """
    left = [node for node in network.nodes if writes(node)]
    for node in left:
        views = _views(node.args[0])
        if views is not None and (value := _written(network, node)) is not None:
            _replace_base(network, node, views, value)
    network.clean()


def _views(value: Any) -> list[Node] | None:
    """The tensor written and what it is a view of, up to the base; None where one has no inverse."""
    found = [value]
    while _is_view(value):
        if value.target not in {aten.slice.Tensor, aten.select.int, *RESHAPES, *TURNS}:
            return None
        value = value.args[0]
        found.append(value)
    if any(not isinstance(node, Node) or node.op != "call_function" for node in found):
        return None
    return found if all(_fits(view) for view in found[:-1]) else None


def _fits(view: Node) -> bool:
    """Whether a slice is not of the batch, and not of too many pieces."""
    if view.target not in (aten.slice.Tensor, aten.select.int):
        return True
    axis, positions = _positions(view)
    return axis != 0 and len(list(runs(_merged(shape_of(view.args[0])[axis], positions)))) <= MOST_RUNS


def _is_view(node: Any) -> bool:
    return isinstance(node, Node) and gives_views(node.target, of_what_it_wrote=False)


def _written(network: FlatNetwork, node: Node) -> Node | None:
    """The value that a write leaves in the part, as an operator that writes nothing."""
    part: Any = node.args[0]
    if node.target in FILLS:
        value = 0.0 if len(node.args) < 2 else node.args[1]
        if isinstance(value, Node) and value.meta.get("val") is not None and _same_shape(value, part):
            return value
        zero = network.add_call(aten.mul.Tensor, (part, 0.0), node, value=part.meta["val"])
        return network.add_call(aten.add.Tensor, (zero, value), node, value=part.meta["val"])
    name = str(node.target).split(".")[1]
    functional = same_overload(getattr(aten, name.removesuffix("_"), None), node.target)
    if functional is None or not name.endswith("_"):
        return None
    new = network.add_call(functional, node.args, node, value=part.meta["val"])
    new.kwargs = node.kwargs
    return new


def _same_shape(one: Node, other: Node) -> bool:
    return one.meta["val"].dim() == other.meta["val"].dim() and shape_of(one) == shape_of(other)


def _replace_base(network: FlatNetwork, node: Node, views: list[Node], value: Node) -> None:
    """Compute the base anew, and every view of it that is read after the write."""
    for view in views[:-1]:
        value = _inverse(network, view, value, node)
    order = {other: i for i, other in enumerate(network.nodes)}
    now = {views[-1]: value}

    def current(alias: Any) -> Node:
        if alias not in now:
            arguments = (current(alias.args[0]), *alias.args[1:])
            now[alias] = network.add_call(alias.target, arguments, node, value=alias.meta["val"])
            now[alias].kwargs = alias.kwargs
        return now[alias]

    for alias in _aliases(views[-1], node):
        if order[alias] < order[node]:
            for reader in [reader for reader in alias.users if order.get(reader, -1) > order[node]]:
                reader.replace_input_with(alias, current(alias))
    network.redirect(node, current(views[0]))


def _aliases(base: Node, writer: Node) -> list[Node]:
    found = [base]
    for node in found:
        found += [reader for reader in node.users if _is_view(reader) and reader is not writer]
    return found


def _inverse(network: FlatNetwork, view: Node, value: Node, before: Node) -> Node:
    """The tensor that a view was taken of, with this value where the view was."""
    source: Any = view.args[0]
    if view.target in RESHAPES:
        return network.add_call(aten.reshape.default, (value, list(shape_of(source))), before, value=source.meta["val"])
    if view.target == aten.transpose.int:
        return network.add_call(aten.transpose.int, (value, *view.args[1:]), before)
    if view.target == aten.permute.default:
        order: Any = view.args[1]
        back = [order.index(axis) for axis in range(len(order))]
        return network.add_call(aten.permute.default, (value, back), before)
    axis, positions = _positions(view)
    if view.target == aten.select.int:
        shape = list(shape_of(source))
        shape[axis] = 1
        value = network.add_call(aten.reshape.default, (value, shape), before)
    return _joined(network, source, value, axis, positions, before)


def _positions(view: Node) -> tuple[int, list[int]]:
    """The axis of a slice or selection, and where on it."""
    source: Any = view.args[0]
    if view.target == aten.select.int:
        _, axis, index = arguments_of(view, None, 0, 0)
        axis %= source.meta["val"].dim()
        return axis, [index % shape_of(source)[axis]] if axis else [0]
    _, axis, start, end, step = arguments_of(view, None, 0, None, None, 1)
    axis %= source.meta["val"].dim()
    return axis, list(range(shape_of(source)[axis]))[start:end:step] if axis else [0]


def _merged(side: int, positions: list[int]) -> list[int]:
    """Where along (old tensor, a gap, new value) each position of the result comes from."""
    merged = list(range(side))
    for i, position in enumerate(positions):
        merged[position] = side + 1 + i
    return merged


def _joined(network: FlatNetwork, old: Node, new: Node, axis: int, positions: list[int], before: Node) -> Node:
    side = shape_of(old)[axis]
    parts = []
    for start, end in runs(_merged(side, positions)):
        source, shift = (old, 0) if start < side else (new, side + 1)
        if (start - shift, end - shift) != (0, shape_of(source)[axis]):
            source = network.add_call(aten.slice.Tensor, (source, axis, start - shift, end - shift), before)
        parts.append(source)
    while len(parts) > 1:
        groups = [parts[i : i + MOST_JOINED] for i in range(0, len(parts), MOST_JOINED)]
        parts = [
            network.add_call(aten.cat.default, (group, axis), before) if len(group) > 1 else group[0]
            for group in groups
        ]
    return parts[0]
