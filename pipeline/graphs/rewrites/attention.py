"""Products of two tensors in the form that delegates take: batches of matrices, ``[B, M, K] · [B, K, N]``.

::

    scaled_dot_product_attention(q, k, v)  →  bmm(softmax(bmm(q · scale, kᵀ) + mask), v)
    matmul of three and more axes          →  reshape to three, bmm, reshape
    matmul(x, W), mm, addmm with constants →  linear

The first two stay in float in int8 files: ExecuTorch has no int8 form of a product of two tensors. The last is a linear
layer like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.fx import Node

from pipeline.graphs.flat import FlatNetwork, arguments_of
from pipeline.graphs.rewrites.reshaping import INFERRED, sides_of

aten: Any = torch.ops.aten


class BatchedProduct(nn.Module):
    """A matrix product over the last two axes of tensors that agree in all others.

    Where b is one column, as bᵀ · aᵀ: LiteRT's converter fails on a product of one column that is a map afterwards.
    """

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """``[…, M, K]`` and ``[…, K, N]`` to ``[…, M, N]``."""
        if b.shape[-1] == 1 != a.shape[-2]:
            turned: torch.Tensor = self.forward(b.transpose(-2, -1), a.transpose(-2, -1))
            return turned.reshape(*a.shape[:-1], 1)
        product = torch.bmm(a.reshape(-1, *a.shape[-2:]), b.reshape(-1, *b.shape[-2:]))
        return product.reshape(*a.shape[:-1], b.shape[-1])


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


CONSTANT_PRODUCTS = {aten.matmul.default, aten.mm.default, aten.addmm.default}


def _turned(matrix: torch.Tensor) -> torch.Tensor:
    return matrix.t().contiguous()


def batch_products(network: FlatNetwork) -> None:
    """Write attention and products of two tensors as products of batches of matrices."""
    for node in network.nodes:
        if node.target == aten.scaled_dot_product_attention.default:
            _attention(network, node)
        elif node.target in PRODUCTS and _agree(node.args) and _needs_form(node):
            factors: Any = node.args  # not all_input_nodes: in y @ y that is one
            network.replace(node, BatchedProduct(), list(factors), "matmul")
    network.clean()


PRODUCTS = {aten.matmul.default, aten.bmm.default}


def _needs_form(node: Node) -> bool:
    """Whether a product is not one of batches of matrices already, or gives one column."""
    shape = node.meta["val"].shape
    return len(shape) > 2 and (node.target == aten.matmul.default or shape[-1] == 1)


def _attention(network: FlatNetwork, node: Node) -> None:
    given: dict[str, Any] = dict(
        zip(("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale"), node.args, strict=False)
    )
    given |= node.kwargs
    q, k, v = (given[name] for name in ("query", "key", "value"))
    mask = given.get("attn_mask")
    if not _agree((q, k, v)) or given.get("dropout_p") or given.get("enable_gqa") or _is_boolean(mask):
        return
    shape = q.meta["val"].shape
    scale = given.get("scale")
    unit = Attention(
        float(shape[-1]) ** -0.5 if scale is None else float(scale),
        int(shape[-2]) if given.get("is_causal") else None,
    )
    sources = [q, k, v] if mask is None else [q, k, v, mask]
    network.replace(node, unit, sources, "attention")


def _agree(tensors: Sequence[Any]) -> bool:
    """Whether all tensors have the same axes in front of their matrices, and matrices of fixed sides."""
    shapes = [sides_of(tensor) for tensor in tensors]
    fronts = {None if shape is None else shape[:-2] for shape in shapes}
    fixed = all(shape is not None and INFERRED not in shape[-2:] and len(shape) > 2 for shape in shapes)
    return fixed and len(fronts) == 1


def _is_boolean(mask: Any) -> bool:
    return isinstance(mask, Node) and mask.meta["val"].dtype == torch.bool
