"""Products of two tensors in the form that delegates take: batches of matrices, ``[B, M, K] · [B, K, N]``.

::

    scaled_dot_product_attention(q, k, v)  →  bmm(softmax(bmm(q · scale, kᵀ) + mask), v)
    matmul of four and more axes           →  reshape to three, bmm, reshape
    matmul(x, W), mm, addmm with constants →  linear
    matmul(W, x), einsum with a constant   →  permute, linear, permute

The first two stay in float in int8 files: ExecuTorch has no int8 form of a product of two tensors. The last is a linear
layer like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.fx import Node

from pipeline.networks.flat import FlatNetwork, arguments_of
from pipeline.networks.reshaping import INFERRED, sides_of

aten: Any = torch.ops.aten


class BatchedProduct(nn.Module):
    """A matrix product over the last two axes of tensors that agree in all others."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """``[…, M, K]`` and ``[…, K, N]`` to ``[…, M, N]``."""
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
        if node.target == aten.einsum.default or node.target == aten.matmul.default:
            _contraction(network, node)
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


def _contraction(network: FlatNetwork, node: Node) -> None:
    """Write a sum over one axis of a tensor and one of a constant matrix as a linear layer on that axis."""
    equation, operands = _equation(network, node)
    if len(operands) != 2 or equation is None:
        return
    first, second, result = equation
    one, other = operands
    pairs: list[tuple[str, str, Node, Node]] = [(first, second, one, other), (second, first, other, one)]
    for letters, of_matrix, source, matrix in pairs:
        value = network.constant(matrix)
        summed, new = set(letters) & set(of_matrix), set(of_matrix) - set(letters)
        kept = [letter for letter in letters if letter not in summed]
        distinct = all(len(set(part)) == len(part) for part in (letters, of_matrix, result))
        if value is None or network.constant(source) is not None or len(of_matrix) != 2 or not distinct:
            continue
        if len(summed) != 1 or len(new) != 1 or set(result) != {*kept, *new}:
            continue
        held = matrix
        if of_matrix[0] in summed:  # a linear layer's weight is [outputs, inputs]
            held = network.add_constant("weight", _turned(value), node)
            network.note(str(held.target), _turned, [matrix])
        before = [letters.index(letter) for letter in (*kept, *summed)]
        computed = [*kept, *new]
        x = _call(network, node, aten.permute.default, (source, before), [source])
        shape = [*x.meta["val"].shape[:-1], value.shape[0] if held is matrix else value.shape[1]]
        y = network.insert(node, aten.linear.default, (x, held), x.meta["val"].new_empty(shape))
        last = _call(network, node, aten.permute.default, (y, [computed.index(letter) for letter in result]), [y])
        network.redirect(node, last)
        return


def _equation(network: FlatNetwork, node: Node) -> tuple[tuple[str, str, str] | None, list[Node]]:
    """Of an einsum, or of a product with a constant matrix on the left."""
    if node.target == aten.einsum.default:
        text, operands = arguments_of(node)[:2]
        parts = text.replace(" ", "").replace("->", ",").split(",")
        written = "->" in text and "." not in text and len(parts) == 3
        return ((parts[0], parts[1], parts[2]) if written else None), list(operands)
    one, other = arguments_of(node)[:2]
    left, rank = network.constant(one), len(other.meta["val"].shape)
    if left is None or left.dim() != 2 or rank < 3 or network.constant(other) is not None:
        return None, []
    front = "abcdefgh"[: rank - 2]
    return ("mk", f"{front}kn", f"{front}mn"), [one, other]


def _call(network: FlatNetwork, before: Node, operator: Any, arguments: tuple[Any, ...], sources: list[Node]) -> Node:
    return network.insert(before, operator, arguments, operator(sources[0].meta["val"], *arguments[1:]))


CONSTANT_PRODUCTS = {aten.matmul.default, aten.mm.default, aten.addmm.default}


def _turned(matrix: torch.Tensor) -> torch.Tensor:
    return matrix.t().contiguous()


def batch_products(network: FlatNetwork) -> None:
    """Write attention and products of two tensors as products of batches of matrices."""
    for node in network.nodes:
        if node.target == aten.scaled_dot_product_attention.default:
            _attention(network, node)
        elif node.target == aten.matmul.default and _agree(node.args) and len(node.meta["val"].shape) > 3:
            network.replace(node, BatchedProduct(), node.all_input_nodes, "matmul")
    network.clean()


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
