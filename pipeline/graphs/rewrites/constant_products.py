"""Matrix products with a constant, as linear layers, which have int8 weights per output channel.

::

    matmul(x, W), mm(x, W), addmm(b, x, W)   →   linear(x, Wᵀ, b)
"""

from __future__ import annotations

from typing import Any

import torch

from pipeline.graphs.arguments import arguments_of
from pipeline.graphs.flat import FlatNetwork

aten: Any = torch.ops.aten

CONSTANT_PRODUCTS = {aten.matmul.default, aten.mm.default, aten.addmm.default}


def constant_products_to_linear(network: FlatNetwork) -> None:
    """Write products with a constant matrix as linear layers, so that they have int8 weights per output channel."""
    for node in network.nodes:
        if node.target not in CONSTANT_PRODUCTS or node.kwargs:
            continue
        *biases, source, weight = arguments_of(node)
        matrix, rows = network.constant(weight), [network.constant(bias) for bias in biases]
        known = all(row is not None and row.dim() == 1 for row in rows)
        if matrix is None or matrix.dim() != 2 or network.constant(source) is not None or not known:
            continue
        turned = network.add_constant("weight", _turned(matrix), node)
        network.note(str(turned.target), _turned, [weight])
        node.target, node.args = aten.linear.default, (source, turned, *biases)
    network.clean()


def _turned(matrix: torch.Tensor) -> torch.Tensor:
    return matrix.t().contiguous()
