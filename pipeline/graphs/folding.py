"""What can be computed before a picture is there: constants, and batch norms in evaluation mode."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from operator import getitem
from typing import Any

import torch
from torch.fx import Node
from torch.fx.node import map_arg

from calibration.channel_flow import ChannelPlace
from pipeline.errors import BadInput
from pipeline.graphs.evaluation_mode import BATCH_NORM, DROPOUTS, check_evaluation_mode, is_random, named
from pipeline.graphs.flat import FlatNetwork, writes
from pipeline.graphs.layer_before import layer_before
from pipeline.graphs.units import ChannelScale

aten: Any = torch.ops.aten


def drop_dropouts(network: FlatNetwork) -> None:
    """Dropout does nothing when it is not trained."""
    check_evaluation_mode(network)
    for node in network.nodes:
        if node.target in DROPOUTS:
            network.redirect(node, node.all_input_nodes[0])


def make_functional(network: FlatNetwork) -> None:
    """Write operators that overwrite their input (``relu_``) as those that do not.

    Whoever read the input afterwards reads the result. One that writes into a part of a larger tensor stays.
    """
    order = {node: i for i, node in enumerate(network.nodes)}
    for node in network.nodes:
        functional = _functional(node)
        if functional is None:
            continue
        written = node.args[0]
        assert isinstance(written, Node)
        others = _aliases(written, node) - {written}
        if any(order[reader] > order[node] for alias in others for reader in alias.users):
            continue
        node.target = functional
        for reader in [reader for reader in written.users if order[reader] > order[node]]:
            reader.replace_input_with(written, node)


def fold_constants(network: FlatNetwork) -> None:
    """Compute what depends on parameters alone (``weight_norm``, ``zeros`` in the forward, …), once."""
    folded: set[Node] = set()
    for node in network.nodes:
        if node in folded or not _is_constant(network, node):
            continue
        sources, compute = node.all_input_nodes, _as_function(node)
        value = _computed(network, compute, sources)
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
    makes = isinstance(node.target, torch._ops.OpOverload) and not node.target._schema.name.startswith(EMPTY)
    if not (node.all_input_nodes or (makes and isinstance(node.meta["val"], torch.Tensor))):
        return False
    return not writes(node) and not is_random(node) and not _is_written(node)


EMPTY = ("aten::empty", "aten::new_empty")
"""Tensors without values."""


def _is_written(node: Node) -> bool:
    """Whether an operator writes into a node's tensor or into a view of it."""
    return any(
        reader.args[:1] == (alias,) and writes(reader)
        for alias in {*_aliases(node, node), node}
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
    """An operator as a function of the tensors that it reads, each once, in the order of ``all_input_nodes``."""
    operator: Any = node.target
    args, kwargs, sources = node.args, node.kwargs, node.all_input_nodes

    def compute(*values: Any) -> Any:
        arguments, named = map_arg((args, kwargs), dict(zip(sources, values, strict=True)).__getitem__)
        return operator(*arguments, **named)

    return compute


def fold_batch_norms(network: FlatNetwork) -> None:
    """Fold each batch norm into the convolution or linear layer whose output nobody else reads, moved or not.

    By who reads what, not by the order in which modules were defined: weights that several calls share are folded
    for each call by itself. A batch norm that follows no such layer becomes a depthwise 1×1 convolution.
    """
    for node in network.nodes:
        if node.target != BATCH_NORM:
            continue
        arguments: Any = node.args
        source, gamma, beta, mean, variance, _, _, eps = arguments[:8]
        if network.constant(mean) is None or network.constant(variance) is None:
            raise BadInput(
                f"The batch norm {named(node)} computes its statistics while the network runs: they must be buffers."
            )
        scale, scale_of = partial(_scale, eps), (variance, gamma)
        shift, shift_of = partial(_shift, eps), (variance, gamma, mean, beta)
        found = layer_before(network, source)
        if found is not None and found.place == ChannelPlace(1):
            layer = found.layer
            weight, bias = (*layer.args[1:3], None)[:2]
            tensors = [
                own_tensor(network, layer, 1, "weight", scale, (weight, *scale_of)),
                own_tensor(network, layer, 2, "bias", shift, (bias, *shift_of)),
            ]
            layer.args = (layer.args[0], *tensors, *layer.args[3:])
            network.redirect(node, source)
        else:
            one = ChannelScale(
                _computed(network, scale, (None, *scale_of)), _computed(network, shift, (None, *shift_of))
            )
            path = network.replace(node, one, source, "scale")
            network.note(f"{path}.weight", scale, (None, *scale_of))
            network.note(f"{path}.bias", shift, (None, *shift_of))
    network.clean()


def _functional(node: Node) -> Any:
    """The operator that computes the same without overwriting its first input, if this one does."""
    if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
        return None
    name = node.target._schema.name.removeprefix("aten::")
    packet = getattr(aten, name[:-1], None) if name.endswith("_") and not name.endswith("__") else None
    return getattr(packet, node.target._overloadname, None)


def _aliases(node: Node, writer: Node) -> set[Node]:
    """All nodes that may share memory with this one: what it is a view of, and its views but for the writer's."""
    base = node
    while _is_view(base):
        base = base.all_input_nodes[0]
    found, left = {base}, [base]
    while left:
        for reader in left.pop().users:
            if _is_view(reader) and reader not in found and reader is not writer:
                found.add(reader)
                left.append(reader)
    return found


def _is_view(node: Node) -> bool:
    if node.target is getitem:
        return True
    if not isinstance(node.target, torch._ops.OpOverload) or not node.all_input_nodes:
        return False
    return any(value.alias_info is not None for value in node.target._schema.returns)


def _factor(eps: float, variance: torch.Tensor, gamma: torch.Tensor | None) -> torch.Tensor:
    """γ / √(σ² + ε), in double precision."""
    factor = torch.rsqrt(variance.double() + eps)
    return factor if gamma is None else factor * gamma.double()


def _scale(eps: float, weight: torch.Tensor | None, variance: torch.Tensor, gamma: torch.Tensor | None) -> torch.Tensor:
    """A layer's weight with the batch norm after it: each output channel times γ / √(σ² + ε).

    Where there is no layer, of a depthwise 1×1 convolution that does nothing.
    """
    factor = _factor(eps, variance, gamma).view(-1, *[1] * (3 if weight is None else weight.dim() - 1))
    return (factor if weight is None else weight.double() * factor).float()


def _shift(
    eps: float,
    bias: torch.Tensor | None,
    variance: torch.Tensor,
    gamma: torch.Tensor | None,
    mean: torch.Tensor,
    beta: torch.Tensor | None,
) -> torch.Tensor:
    """Its bias: β + (bias − μ) · γ / √(σ² + ε)."""
    factor = _factor(eps, variance, gamma)
    shift = (-mean.double() if bias is None else bias.double() - mean.double()) * factor
    return (shift if beta is None else shift + beta.double()).float()


def _computed(network: FlatNetwork, compute: Callable[..., torch.Tensor], sources: Sequence[Any]) -> torch.Tensor:
    """What ``compute`` makes of the constants that these nodes stand for, None of None."""
    with torch.no_grad():
        return compute(*map(network.constant, sources))


def own_tensor(
    network: FlatNetwork,
    layer: Node,
    index: int,
    name: str,
    compute: Callable[..., torch.Tensor],
    sources: Sequence[Any],
) -> Node:
    """A node for a new tensor of this layer alone, under the path of the one that it takes the place of."""
    old = layer.args[index] if len(layer.args) > index else None
    value = _computed(network, compute, sources)
    if isinstance(old, Node) and len(old.users) == 1:
        network.keep(str(old.target), value)
        node = old
    else:
        node = network.add_constant(name, value, layer)
    network.note(str(node.target), compute, sources)
    return node
