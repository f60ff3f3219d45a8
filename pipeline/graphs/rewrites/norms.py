"""Normalizations by statistics of the image itself, written as means over a plane, which delegates take.

::

    group_norm, layer_norm, instance_norm → reshape [N, groups, …] → (x − mean) · rsqrt(var + ε) → reshape → · γ → + β
    rms_norm                              → reshape [N, groups, …] → x · rsqrt(mean(x²) + ε)     → reshape → · γ

All of it stays in float in an int8 file: statistics rounded to 256 steps would move every value that they divide.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.fx import Node

from calibration.float_region import FloatRegion
from pipeline.graphs.arguments import arguments_of
from pipeline.graphs.flat import FlatNetwork
from pipeline.graphs.shapes import shape_of

aten: Any = torch.ops.aten

PLANE = (2, 3)
"""The axes that every delegate takes a mean over."""


class Standardize(FloatRegion):
    """``(x − mean) / √(variance + ε)`` within each group of values; with ``centred`` off ``x / √(mean of x² + ε)``.

    ``grouped`` is a shape ``[groups, a, b]`` of one image: every group is its own mean over a and b.
    """

    def __init__(
        self, grouped: tuple[int, int, int], shape: Sequence[int], eps: float, *, centred: bool = True
    ) -> None:
        super().__init__()
        self.grouped, self.shape, self.eps, self.centred = grouped, tuple(shape), eps, centred

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[N, *shape]`` to the same shape."""
        groups = x.reshape(-1, *self.grouped)
        if self.centred:
            groups = groups - groups.mean(PLANE, keepdim=True)
        scale = torch.rsqrt((groups * groups).mean(PLANE, keepdim=True) + self.eps)
        return (groups * scale).reshape(-1, *self.shape)


Norm = tuple[nn.Module, tuple[int, ...], Any, Any]
"""The unit, the shape in which γ and β are broadcast, γ, β."""


def rewrite_norms(network: FlatNetwork) -> None:
    """Replace every normalization; its γ and β stay parameters of the network, in float."""
    for node in network.nodes:
        if node.target in NORMS and (found := NORMS[node.target](node)) is not None:
            unit, axes, weight, bias = found
            name = str(node.target).split(".")[1]
            _with_affine(network, node, unit, name, axes, weight, bias)
    network.clean()


def _group_norm(node: Node) -> Norm | None:
    source, groups, weight, bias, eps = arguments_of(node, None, None, None, None, 1e-5)
    _, channels, *sides = shape_of(source)
    grouped = (groups, channels // groups, math.prod(sides))
    return Standardize(grouped, (channels, *sides), eps), (channels, *[1] * len(sides)), weight, bias


def _instance_norm(node: Node) -> Norm | None:
    source, weight, bias, _, _, by_image, _, eps = arguments_of(node, None, None, None, None, None, True, 0.1, 1e-5)
    _, channels, *sides = shape_of(source)
    if not by_image:
        return None  # it has running statistics: a batch norm
    grouped = (channels, sides[0] if len(sides) > 1 else 1, math.prod(sides[1:]) if len(sides) > 1 else sides[0])
    return Standardize(grouped, (channels, *sides), eps), (channels, *[1] * len(sides)), weight, bias


def _layer_norm(node: Node) -> Norm | None:
    source, normalized, weight, bias, eps = arguments_of(node, None, None, None, None, 1e-5)
    return _of_last_axes(source, normalized, weight, bias, eps, centred=True)


def _rms_norm(node: Node) -> Norm | None:
    source, normalized, weight, eps = arguments_of(node, None, None, None, None)
    small = torch.finfo(torch.float32).eps if eps is None else eps
    return _of_last_axes(source, normalized, weight, None, small, centred=False)


def _of_last_axes(
    source: Any, normalized: Sequence[int], weight: Any, bias: Any, eps: float, *, centred: bool
) -> Norm | None:
    shape = shape_of(source)
    if len(normalized) >= len(shape):
        return None  # it normalizes across the batch
    outer = math.prod(shape[1 : len(shape) - len(normalized)])
    unit = Standardize((outer, 1, math.prod(normalized)), shape[1:], eps, centred=centred)
    return unit, tuple(normalized), weight, bias


NORMS: dict[Any, Callable[[Node], Norm | None]] = {
    aten.group_norm.default: _group_norm,
    aten.instance_norm.default: _instance_norm,
    aten.layer_norm.default: _layer_norm,
    aten.rms_norm.default: _rms_norm,
}


def _with_affine(
    network: FlatNetwork, node: Node, unit: nn.Module, name: str, shape: tuple[int, ...], weight: Any, bias: Any
) -> None:
    """Put the unit in a node's place, and a product with γ and a sum with β behind it where there are any."""
    result = network.add_unit(unit, node.all_input_nodes[0], name, node)
    for operator, parameter, label in ((aten.mul.Tensor, weight, "weight"), (aten.add.Tensor, bias, "bias")):
        if parameter is not None:
            shaped = _broadcast(network, node, parameter, label, shape)
            result = network.add_call(operator, (result, shaped), node, value=node.meta["val"])
    network.redirect(node, result)


def _broadcast(network: FlatNetwork, node: Node, parameter: Any, label: str, shape: tuple[int, ...]) -> Any:
    """γ or β as it meets the tensor, with all its axes: delegates that turn axes turn those of constants too."""
    value = network.constant(parameter)
    if value is None:
        return parameter  # computed from the image: no constant to turn
    view = partial(torch.reshape, shape=(*[1] * (node.meta["val"].dim() - len(shape)), *shape))
    constant = network.add_constant(label, view(value), node)
    network.note(str(constant.target), view, (parameter,))
    return constant
