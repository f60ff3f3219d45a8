"""Attention as products of batches of matrices, which delegates take.

::

    scaled_dot_product_attention(q, k, v)  →  bmm(softmax(bmm(q · scale, kᵀ) + mask), v)

The products stay in float in int8 files: ExecuTorch has no int8 form of a product of two tensors.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.fx import Node

from pipeline.graphs.arguments import arguments_of
from pipeline.graphs.flat import FlatNetwork
from pipeline.graphs.matrix_shapes import agree
from pipeline.graphs.units import BatchedProduct

aten: Any = torch.ops.aten


class Attention(nn.Module):
    """softmax(scale · q kᵀ + mask) v, on matrices of all heads at once (Vaswani et al., 2017, equation 1)."""

    def __init__(self, scale: float, triangle: int | None) -> None:
        super().__init__()
        self.scale, self.product = scale, BatchedProduct()
        if triangle is not None:
            later = torch.full((triangle, triangle), -1e9).triu(1)  # not −∞: kernels subtract it from itself
            self.register_buffer("mask", later, persistent=False)
        self.causal = triangle is not None

    def forward(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """``[…, T, D]``, ``[…, S, D]`` and ``[…, S, V]`` to ``[…, T, V]``; the mask is added."""
        scores = self.product(q * self.scale, k.transpose(-2, -1))
        if self.causal:
            scores = scores + self.mask
        if mask is not None:
            scores = scores + mask
        attended: torch.Tensor = self.product(scores.softmax(-1), v)
        return attended


def write_attention(network: FlatNetwork) -> None:
    """Replace scaled dot-product attention; with a mask of bool, or dropout, it stays."""
    for node in network.nodes:
        if node.target == aten.scaled_dot_product_attention.default:
            _attention(network, node)
    network.clean()


def _attention(network: FlatNetwork, node: Node) -> None:
    q, k, v, mask, dropout, is_causal, scale, grouped = arguments_of(
        node, None, None, None, None, 0.0, False, None, False
    )
    if not agree((q, k, v)) or dropout or grouped or _is_boolean(mask):
        return
    shape = q.meta["val"].shape
    unit = Attention(
        float(shape[-1]) ** -0.5 if scale is None else float(scale),
        int(shape[-2]) if is_causal else None,
    )
    sources = [q, k, v] if mask is None else [q, k, v, mask]
    network.replace(node, unit, sources, "attention")


def _is_boolean(mask: Any) -> bool:
    return isinstance(mask, Node) and mask.meta["val"].dtype == torch.bool
