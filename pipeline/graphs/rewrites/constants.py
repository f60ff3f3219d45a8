"""Operators that depend on parameters alone (``weight_norm``, ``zeros`` in the forward), as constants.

::

    v, g → weight_norm → conv2d   →   w → conv2d
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from operator import getitem
from typing import Any

import torch
from torch.fx import Node
from torch.fx.node import map_arg

from pipeline.compat.torch import is_operator, operator_name
from pipeline.graphs.aliases import aliases_of
from pipeline.graphs.evaluation_mode import is_random
from pipeline.graphs.flat import FlatNetwork, writes
from pipeline.graphs.layer_tensors import computed


def fold_constants(network: FlatNetwork) -> None:
    """Compute what depends on parameters alone (``weight_norm``, ``zeros`` in the forward, …), once."""
    folded: set[Node] = set()
    for node in network.nodes:
        if node in folded or not _is_constant(network, node):
            continue
        sources, compute = node.all_input_nodes, _as_function(node)
        value = computed(network, compute, sources)
        if isinstance(value, torch.Tensor):
            _fold(network, node, compute, sources, value)
        elif isinstance(value, (tuple, list)):  # the parts of a weight, as nn.MultiheadAttention takes them
            for part in [part for part in node.users if part.target is getitem]:
                index: Any = part.args[1]
                _fold(network, part, partial(_part, compute, index), sources, value[index])
                folded.add(part)
    network.clean()


def _is_constant(network: FlatNetwork, node: Node) -> bool:
    """Whether an operator computes the same for every image, and nobody changes its result afterwards."""
    if node.op != "call_function" or any(network.constant(source) is None for source in node.all_input_nodes):
        return False
    makes = is_operator(node.target) and not operator_name(node.target).startswith(EMPTY)
    if not (node.all_input_nodes or (makes and isinstance(node.meta["val"], torch.Tensor))):
        return False
    return not writes(node) and not is_random(node) and not _is_written(node)


EMPTY = ("aten::empty", "aten::new_empty")
"""Tensors without values."""


def _is_written(node: Node) -> bool:
    """Whether an operator writes into a node's tensor or into a view of it."""
    return any(
        reader.args[:1] == (alias,) and writes(reader)
        for alias in {*aliases_of(node, node), node}
        for reader in alias.users
    )


def _fold(
    network: FlatNetwork, node: Node, compute: Callable[..., Any], sources: Sequence[Node], value: torch.Tensor
) -> None:
    constant = network.add_constant(node.name, value, node)
    network.note(str(constant.target), compute, sources)
    network.redirect(node, constant)


def _part(compute: Callable[..., Any], index: int, *values: torch.Tensor) -> Any:
    return compute(*values)[index]


def _as_function(node: Node) -> Callable[..., Any]:
    """Return an operator as a function of the tensors that it reads, each once, in the order of ``all_input_nodes``."""
    operator: Any = node.target
    args, kwargs, sources = node.args, node.kwargs, node.all_input_nodes

    def compute(*values: Any) -> Any:
        arguments, named = map_arg((args, kwargs), dict(zip(sources, values, strict=True)).__getitem__)
        return operator(*arguments, **named)

    return compute
