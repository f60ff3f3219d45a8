"""Arithmetic with one constant per channel behind a layer (layer scale, a bias that is added) as part of the layer.

::

    linear(x, W, b) → permute → mul(γ)   →   linear(x, γ · W, γ · b) → permute

Left alone it stays in float between two int8 tensors, because runtimes have no int8 form of it that keeps the constant
exact.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.fx import Node

from calibration.axes import channel_axis
from pipeline.graphs.flat import FlatNetwork, arguments_of
from pipeline.graphs.folding import own_tensor
from pipeline.graphs.layer_before import LayerBefore, layer_before

aten: Any = torch.ops.aten

SUMS = {aten.add.Tensor, aten.sub.Tensor}
PRODUCTS = {aten.mul.Tensor, aten.div.Tensor}
COMMUTING = {aten.add.Tensor, aten.mul.Tensor}

EXPANSIONS = {aten.expand.default, aten.expand_as.default, aten.broadcast_to.default}

NOTHING = 1e-30
"""Changes no value, and is not folded away: of 0, or of a product with 1, LiteRT's converter makes an int8 operator."""


def drop_expansions(network: FlatNetwork) -> None:
    """Let arithmetic broadcast itself: ``x + p.expand(N, −1, −1)`` is ``x + p``, ``v * c.expand_as(v)`` is ``v * c``.

    LiteRT's converter turns the axes of what it broadcasts, but not of the shape that it broadcasts to. Where something
    else reads the broadcast, it is a sum with values too small to change any.
    """
    for node in network.nodes:
        if node.target not in SUMS | PRODUCTS:
            continue
        for source in node.all_input_nodes:
            others = [other for other in node.all_input_nodes if other is not source]
            same = any(network.sides(other) == network.sides(node) for other in others)
            if source.target in EXPANSIONS and same:
                node.replace_input_with(source, source.all_input_nodes[0])
    for node in network.nodes:
        if node.target in EXPANSIONS and (sides := _expanded(network, node)) is not None:
            nothing = network.add_constant("nothing", torch.full(sides, NOTHING), node)
            broadcast = (node.all_input_nodes[0], nothing)
            network.redirect(node, network.add_call(aten.add.Tensor, broadcast, node, value=node.meta["val"]))
    network.clean()


def _expanded(network: FlatNetwork, node: Node) -> list[int] | None:
    """How often an expansion repeats each axis; None where it is of a constant, of the batch, or adds axes."""
    source = node.all_input_nodes[0]
    if network.constant(source) is not None or not node.meta["val"].is_floating_point():
        return None
    before, after = network.sides(source), network.sides(node)
    if len(before) != len(after) or before[0] != after[0]:
        return None
    return [1 if one == other else other for one, other in zip(before, after, strict=True)]


def fold_channel_arithmetic(network: FlatNetwork) -> None:
    """Fold each sum and product with a constant per channel into the layer whose output nobody else reads."""
    for node in network.nodes:
        if node.target not in SUMS | PRODUCTS or node.kwargs or len(node.args) != 2:
            continue
        one, other = arguments_of(node)
        if node.target in COMMUTING and network.constant(one) is not None:
            one, other = other, one
        constant = network.constant(other)
        if isinstance(other, (int, float)) and node.target in PRODUCTS:
            constant = torch.tensor(float(other))
        found = layer_before(network, one)
        if found is None or constant is None or not _is_per_channel(constant, one, node, found):
            continue
        tensors = [_folded(network, node, found.layer, index, other) for index in (1, 2)]
        found.layer.args = (found.layer.args[0], *tensors, *found.layer.args[3:])
        network.redirect(node, one)
    network.clean()


def _is_per_channel(constant: torch.Tensor, source: Any, node: Node, found: LayerBefore) -> bool:
    """Whether it broadcasts to the source as one value for each channel, or for all."""
    shape = source.meta["val"].shape
    if node.meta["val"].shape != shape or not constant.is_floating_point():
        return False
    longer = [axis for axis, side in enumerate(constant.shape, len(shape) - constant.dim()) if side != 1]
    return not longer or (longer == [found.place.axis] and found.place.inner == 1)


def _folded(network: FlatNetwork, node: Node, layer: Node, index: int, constant: Any) -> Node | None:
    """The layer's weight (1) or bias (2) with the constant in it."""
    old: Node | None = arguments_of(layer, None, None, None)[index]
    is_sum = node.target in SUMS
    if (index == 1 and is_sum) or (old is None and not is_sum):
        return old
    operator: Any = node.target
    outputs = int(layer.meta["val"].shape[channel_axis(layer.target)])
    name = ("weight", "bias")[index - 1]
    if isinstance(constant, Node):
        compute = partial(_bias if is_sum else _product, operator, outputs)
        return own_tensor(network, layer, index, name, compute, (old, constant))
    number = torch.tensor(float(constant))
    return own_tensor(network, layer, index, name, partial(_product, operator, outputs, constant=number), (old,))


def _product(operator: Callable[..., torch.Tensor], outputs: int, old: torch.Tensor, constant: torch.Tensor) -> Any:
    factors = constant.double().flatten().expand(outputs).view(-1, *[1] * (old.dim() - 1))
    return operator(old.double(), factors).float()


def _bias(operator: Callable[..., torch.Tensor], outputs: int, old: torch.Tensor | None, constant: torch.Tensor) -> Any:
    values = constant.double().flatten().expand(outputs)
    before = torch.zeros_like(values) if old is None else old.double()
    return operator(before, values).float()
