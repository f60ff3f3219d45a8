"""Products of two tensors as products of batches of matrices, ``[B, M, K] · [B, K, N]``, which delegates take.

::

    matmul [N, H, M, K] · [N, H, K, L]  →  reshape to three axes, bmm, reshape

They stay in float in int8 files: ExecuTorch has no int8 form of a product of two tensors.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node

from pipeline.graphs.flat import FlatNetwork
from pipeline.graphs.matrix_shapes import agree
from pipeline.graphs.units import BatchedProduct

aten: Any = torch.ops.aten

PRODUCTS = {aten.matmul.default, aten.bmm.default}


def batch_products(network: FlatNetwork) -> None:
    """Replace matrix products of two tensors that agree in all axes but the last two."""
    for node in network.nodes:
        if node.target in PRODUCTS and agree(node.args) and _needs_form(node):
            factors: Any = node.args  # not all_input_nodes: in y @ y that is one
            network.replace(node, BatchedProduct(), list(factors), "matmul")
    network.clean()


def _needs_form(node: Node) -> bool:
    """Whether a product is not one of batches of matrices already, or gives one column."""
    shape = node.meta["val"].shape
    return len(shape) > 2 and (node.target == aten.matmul.default or shape[-1] == 1)
