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
from pipeline.graphs.arguments import arguments_of
from pipeline.graphs.arithmetic import COMMUTING, PRODUCTS, SUMS
from pipeline.graphs.flat import FlatNetwork
from pipeline.graphs.layer_before import LayerBefore, layer_before
from pipeline.graphs.layer_tensors import own_tensor


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
    """Return the layer's weight (1) or bias (2) with the constant in it."""
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
