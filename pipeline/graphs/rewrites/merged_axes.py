"""Permutations of more axes than Core ML has, as permutations in which axes that stay neighbours are one.

::

    reshape to 6 axes → permute → reshape   →   reshape to 4 axes → permute → reshape
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.fx import Node

from pipeline.graphs.flat import FlatNetwork
from pipeline.graphs.shapes import FREE, Shape, several_free, sides_of
from pipeline.graphs.units import Permuted

aten: Any = torch.ops.aten


def merge_axes(network: FlatNetwork) -> None:
    """Replace reshape → permute → reshape through more axes than ``MOST_AXES``."""
    for node in network.nodes:
        if node.target in (aten.reshape.default, aten.flatten.using_ints):
            _merge_axes(network, node)
    network.clean()


MOST_AXES = 5
"""Of a tensor in Core ML."""


def _merge_axes(network: FlatNetwork, end: Node) -> None:
    turned = _only(end.args[0], aten.clone.default, aten.contiguous.default)
    if turned.target != aten.permute.default or len(turned.users) != 1 or len(turned.meta["val"].shape) <= MOST_AXES:
        return
    begin = turned.args[0]
    before, result = sides_of(begin), sides_of(end)
    if begin.target != aten.reshape.default or several_free(before, result):
        return
    shape, order = merged(before, turned.args[1])
    network.replace(end, Permuted(shape, order, result), begin.args[0], "permute")


def merged(shape: Sequence[int], order: Sequence[int]) -> tuple[Shape, tuple[int, ...]]:
    """Return the same permutation of fewer axes: those that follow each other before and after are one.

    ``[N, 2, 4, 2, 4, C]`` by (0, 1, 3, 2, 4, 5) is ``[2 N, 4, 2, 4 C]`` by (0, 2, 1, 3).
    """
    order = [axis % len(shape) for axis in order]
    runs: list[list[int]] = []
    for axis in order:
        if runs and axis == runs[-1][-1] + 1:
            runs[-1].append(axis)
        else:
            runs.append([axis])
    by_place = sorted(runs)
    sides = tuple(_product([shape[axis] for axis in run]) for run in by_place)
    return sides, tuple(by_place.index(run) for run in runs)


def _product(sides: Sequence[int]) -> int:
    found = 1
    for side in sides:
        found = FREE if FREE in (found, side) else found * side
    return found


def _only(node: Any, *passed: Any) -> Any:
    """Return what operators that nobody else reads were given."""
    while node.target in passed and len(node.users) == 1:
        node = node.args[0]
    return node
