"""Rewrites that look at one operator, or at a few that end in one, and give the module that takes their place.

One walk over the network serves them all, because some look at the operators that follow as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn
from torch.fx import Node

from pipeline.graphs.flat import FlatNetwork
from pipeline.graphs.patterns import Pattern
from pipeline.graphs.rewrites import (
    adaptive_averages,
    average_pooling,
    ceil_mode,
    channel_shuffle,
    clamp,
    constant_padding,
    edge_padding,
    elu,
    filled_tensors,
    first_axis,
    flips,
    gelu,
    glu,
    hard_activations,
    joined_sigmoids,
    local_response_norm,
    new_axes,
    no_ops,
    plane_means,
    repeats,
    rolls,
    rrelu,
    selects,
    shrink,
    silu,
    softmax,
    softplus,
    splits,
    squeezes,
    strided_slices,
    threshold,
    variances,
)

Unit = Callable[[Node], "nn.Module | None"]
"""From an operator the module that takes its place, or None where it is well as it is."""

PATTERNS: Mapping[Any, Pattern] = {
    **local_response_norm.PATTERNS,
    **plane_means.PATTERNS,
    **channel_shuffle.PATTERNS,
}
"""By the last operator of each."""

OPERATORS: Sequence[Mapping[Any, Unit]] = (
    # Activations.
    silu.UNITS,
    joined_sigmoids.UNITS,
    hard_activations.UNITS,
    softplus.UNITS,
    elu.UNITS,
    gelu.UNITS,
    clamp.UNITS,
    shrink.UNITS,
    threshold.UNITS,
    rrelu.UNITS,
    glu.UNITS,
    softmax.UNITS,
    # Means, pooling and statistics.
    plane_means.UNITS,
    adaptive_averages.UNITS,
    average_pooling.UNITS,
    ceil_mode.UNITS,
    variances.UNITS,
    # Operators that move or pick values.
    splits.UNITS,
    channel_shuffle.UNITS,
    edge_padding.UNITS,
    constant_padding.UNITS,
    rolls.UNITS,
    flips.UNITS,
    repeats.UNITS,
    strided_slices.UNITS,
    selects.UNITS,
    new_axes.UNITS,
    # Others.
    filled_tensors.UNITS,
    no_ops.UNITS,
)

RESHAPES: Sequence[Mapping[Any, Unit]] = (squeezes.UNITS, first_axis.UNITS)
"""What is left of the operators that move values."""


def replace_patterns(network: FlatNetwork) -> None:
    """Replace several operators that compute one thing by its module."""
    for node in network.nodes:
        if node.target in PATTERNS and (found := PATTERNS[node.target](node)) is not None:
            unit, source, name = found
            network.replace(node, unit, source, name)
    network.clean()


def replace_operators(network: FlatNetwork) -> None:
    """Replace every operator that has another form by the module of that form."""
    for node in network.nodes:
        _replace(network, node, OPERATORS)
    network.clean()


def reshape_operators(network: FlatNetwork) -> None:
    """Replace the operators on axes that ``replace_operators`` left."""
    for node in network.nodes:
        if not node.kwargs:
            _replace(network, node, RESHAPES)
    network.clean()


def _replace(network: FlatNetwork, node: Node, tables: Sequence[Mapping[Any, Unit]]) -> None:
    """Put the first module that a table has for an operator in its place, under the operator's name."""
    units = (table[node.target](node) for table in tables if node.target in table)
    unit = next((unit for unit in units if unit is not None), None)
    if unit is not None:
        name = str(node.target).split(".")[1]  # aten.silu.default
        network.replace(node, unit, node.all_input_nodes[0], name)
