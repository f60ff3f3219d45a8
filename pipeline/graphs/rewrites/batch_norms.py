"""Batch norms in evaluation mode as part of the layer before them.

::

    conv2d(x, W, b) → batch_norm(μ, σ², γ, β)   →   conv2d(x, W · γ / √(σ² + ε), β + (b − μ) · γ / √(σ² + ε))
    add(x, y)       → batch_norm(μ, σ², γ, β)   →   add(x, y) → depthwise 1×1 conv2d
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from calibration.channel_flow import ChannelPlace
from pipeline.errors import BadInput
from pipeline.graphs.evaluation_mode import BATCH_NORM, named
from pipeline.graphs.flat import FlatNetwork
from pipeline.graphs.layer_before import layer_before
from pipeline.graphs.layer_tensors import computed, own_tensor
from pipeline.graphs.units import ChannelScale


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
            one = ChannelScale(computed(network, scale, (None, *scale_of)), computed(network, shift, (None, *shift_of)))
            path = network.replace(node, one, source, "scale")
            network.note(f"{path}.weight", scale, (None, *scale_of))
            network.note(f"{path}.bias", shift, (None, *shift_of))
    network.clean()


def _factor(eps: float, variance: torch.Tensor, gamma: torch.Tensor | None) -> torch.Tensor:
    """Return γ / √(σ² + ε), in double precision."""
    factor = torch.rsqrt(variance.double() + eps)
    return factor if gamma is None else factor * gamma.double()


def _scale(eps: float, weight: torch.Tensor | None, variance: torch.Tensor, gamma: torch.Tensor | None) -> torch.Tensor:
    """Return a layer's weight with the batch norm after it: each output channel times γ / √(σ² + ε).

    Where there is no layer, return that of a depthwise 1×1 convolution that does nothing.
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
    """Return its bias: β + (bias − μ) · γ / √(σ² + ε)."""
    factor = _factor(eps, variance, gamma)
    shift = (-mean.double() if bias is None else bias.double() - mean.double()) * factor
    return (shift if beta is None else shift + beta.double()).float()
