"""Cross-layer equalisation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.fx import GraphModule, Node

from calibration.annotate import FUSED_ACTIVATIONS, LEAKY, WEIGHTED
from calibration.layers import Layer, bounds_of, layers_of, tensor_of, watch
from calibration.repairs import Repairs

aten = torch.ops.aten

SWEEPS = 1000
CONVERGED = 1e-3
import os
LIMIT=os.environ.get('EQ_LIMIT','tensor')

KEEPING = {aten.dropout.default, aten.dropout_.default, aten.clone.default, aten.contiguous.default, aten.max_pool2d.default}
PADDING = {aten.pad.default, aten.constant_pad_nd.default}
FLATTENING = {aten.flatten.using_ints, aten.view.default, aten.reshape.default, aten.squeeze.dims, aten.squeeze.dim}


@dataclass(frozen=True)
class _Pair:
    one: Layer
    other: Layer
    rectified: bool
    clamp: float


def equalize(graph: GraphModule, batches: Sequence[torch.Tensor]) -> Repairs:
    layers = layers_of(graph)
    pairs = _pairs(layers)
    reaches = _reaches(graph, batches, pairs)
    tensors = {
        name: tensor_of(graph, name).double()
        for pair in pairs
        for name in (pair.one.weight, pair.one.bias, pair.other.weight)
        if name is not None
    }
    for _ in range(SWEEPS):
        changes = [_balance(pair, tensors, reaches[pair.one.node]) for pair in pairs]
        if max(changes, default=0.0) < CONVERGED:
            break
    return Repairs({name: tensor.float() for name, tensor in tensors.items()})


def _balance(pair: _Pair, tensors: dict[str, torch.Tensor], reach: torch.Tensor) -> float:
    weight, after = tensors[str(pair.one.weight)], _by_input(pair.other, tensors[str(pair.other.weight)], len(reach))
    r1, r2 = weight.abs().flatten(1).amax(1), after.abs().amax((1, 3)).flatten()
    free = (r1 > 0) & (r2 > 0) & (reach > 0) & (reach <= pair.clamp)
    limit = min(pair.clamp, float(reach.max())) if LIMIT=='tensor' else pair.clamp
    scale = torch.where(free, torch.maximum((r1 / r2).sqrt(), reach / limit), torch.ones_like(reach))
    weight.div_(scale.view(-1, *[1] * (weight.dim() - 1)))
    if pair.one.bias is not None:
        tensors[pair.one.bias].div_(scale)
    after.mul_(scale.view(after.shape[0], 1, -1, 1))
    reach.div_(scale)
    return float(scale.log().abs().max())


def _by_input(layer: Layer, weight: torch.Tensor, channels: int) -> torch.Tensor:
    groups = layer.groups
    return weight.view(groups, weight.shape[0] // groups, channels // groups, -1)


def _reaches(graph, batches, pairs):
    found: dict[Node, torch.Tensor] = {}
    by_node = {pair.one.node: pair for pair in pairs}

    def look(node: Node, output: torch.Tensor) -> None:
        if node in by_node:
            pair = by_node[node]
            rows = pair.one.rows(output).double()
            reach = (rows if pair.rectified else rows.abs()).amax(0)
            found[node] = torch.maximum(found.get(node, reach), reach)

    watch(graph, batches, look)
    return found


def _pairs(layers):
    by_node = {layer.node: layer for layer in layers}
    pairs = []
    for one in layers:
        p = _follow(one, by_node)
        if p is not None: pairs.append(p)
    return pairs


def _follow(one, by_node):
    rectified, clamp, here = False, math.inf, one.node
    while len(here.users) == 1:
        after = next(iter(here.users))
        if after.target in WEIGHTED:
            other = by_node[after]
            editable = one.weight and other.weight and (one.bias or not one.has_bias) and after.args[0] is here
            return _Pair(one, other, rectified, clamp) if editable else None
        if after.target in FUSED_ACTIVATIONS:
            low, high = bounds_of(after)
            if low != 0: return None
            rectified, clamp = True, min(clamp, high)
        elif not _keeps_channels(after):
            return None
        here = after
    return None


def _keeps_channels(node):
    if node.target in KEEPING | LEAKY:
        return True
    if node.target in PADDING:
        return len(node.args[1]) <= 4 and not any(node.args[2:]) 
    if node.target not in FLATTENING | {aten.mean.dim}: return False
    source = node.args[0].meta["val"]
    if node.target == aten.mean.dim:
        return source.dim() == 4 and sorted(a % 4 for a in node.args[1]) == [2, 3]
    if node.target in FLATTENING:
        value = node.meta["val"]
        return source.dim() == 4 and value.dim() == 2 and value.shape[1] == math.prod(source.shape[1:])
    return False
