"""Instance norms with running statistics, which compute a batch norm in evaluation mode.

::

    instance_norm(x, γ, β, μ, σ², use_input_stats=False)   →   batch_norm(x, γ, β, μ, σ²)
"""

from __future__ import annotations

from typing import Any

import torch

from pipeline.graphs.arguments import arguments_of
from pipeline.graphs.flat import FlatNetwork

aten: Any = torch.ops.aten


def instance_norms_as_batch_norms(network: FlatNetwork) -> None:
    """Replace every instance norm that does not look at its input's statistics."""
    for node in network.nodes:
        if node.target == aten.instance_norm.default:
            source, weight, bias, mean, variance, by_image, momentum, eps = arguments_of(
                node, None, None, None, None, None, True, 0.1, 1e-5
            )
            if not by_image:
                node.target = aten.batch_norm.default
                node.args = (source, weight, bias, mean, variance, False, momentum, eps, False)
                node.kwargs = {}
