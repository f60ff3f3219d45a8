"""``einsum`` as linear layers, 1×1 convolutions and matrix products.

::

    einsum("nchw,oc->nohw", x, w)   →  conv2d(x, w[:, :, None, None])
    einsum("nti,oi->nto", x, w)     →  linear(x, w)
    einsum("nqd,nkd->nqk", q, k)    →  matmul(q, k.transpose)
    w @ x                           →  permute, linear, permute

``w`` is a constant. A product with a constant is a layer with weights: it becomes int8 like every other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch.fx import Node

from pipeline.graphs.flat import FlatNetwork
from pipeline.graphs.shapes import sides_of

aten: Any = torch.ops.aten


def contract_einsums(network: FlatNetwork) -> None:
    """Rewrite einsum of one or two tensors, and matrix products with a constant on the left."""
    for node in network.nodes:
        if node.target == aten.einsum.default:
            arguments: Any = node.args
            _contract(network, node, *arguments[:2])
        elif node.target == aten.matmul.default and (equation := _from_the_left(network, node)):
            _contract(network, node, equation, node.all_input_nodes)
    network.clean()


def _from_the_left(network: FlatNetwork, node: Node) -> str | None:
    """The equation of ``W @ x`` with a constant matrix; on the right a linear layer has it as it is."""
    left, right = node.all_input_nodes if len(node.all_input_nodes) == 2 else (node, node)
    matrix, rank = network.constant(left), len(sides_of(right))
    if matrix is None or matrix.dim() != 2 or rank < 3 or network.constant(right) is not None:
        return None
    front = "abcdefgh"[: rank - 2]
    return f"mk,{front}kn->{front}mn"


class _Terms(NamedTuple):
    """The letters of an equation of two tensors, each with one axis a letter."""

    left: str
    right: str
    out: str

    @property
    def batch(self) -> str:
        """In all three."""
        return "".join(letter for letter in self.out if letter in self.left and letter in self.right)

    @property
    def summed(self) -> str:
        """In both tensors, and not in the result."""
        return "".join(letter for letter in self.left if letter in self.right and letter not in self.out)

    @property
    def rows(self) -> str:
        """In the left tensor and the result."""
        return "".join(letter for letter in self.out if letter in self.left and letter not in self.right)

    @property
    def columns(self) -> str:
        """In the right tensor and the result."""
        return "".join(letter for letter in self.out if letter in self.right and letter not in self.left)


def _contract(network: FlatNetwork, node: Node, equation: str, tensors: Sequence[Node]) -> None:
    terms = _letters(equation, [len(sides_of(tensor)) for tensor in tensors])
    if terms is None:
        return
    *inputs, out = terms
    others = [out, out] if len(inputs) == 1 else [inputs[1] + out, inputs[0] + out]
    operands = [_summed(network, node, *one) for one in zip(tensors, inputs, others, strict=False)]
    if len(operands) == 1:
        tensor, letters = operands[0]
        new = _arranged(network, node, tensor, letters, out)
    else:
        (left, left_letters), (right, right_letters) = operands
        if network.constant(left) is not None:
            left, left_letters, right, right_letters = right, right_letters, left, left_letters
        found = _Terms(left_letters, right_letters, out)
        is_layer = network.constant(right) is not None and not found.batch and found.summed
        new = (_layer if is_layer else _product)(network, node, left, right, found)
    network.redirect(node, new)


def _letters(equation: str, ranks: Sequence[int]) -> list[str] | None:
    """The letters of each tensor and of the result; None for an equation that is left alone.

    Those are of more than two tensors, with a letter twice in one tensor, or with an ellipsis of several lengths.
    """
    before, arrow, out = equation.replace(" ", "").partition("->")
    inputs = before.split(",")
    if not 1 <= len(inputs) <= 2 or len(inputs) != len(ranks):
        return None
    free = iter(letter for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if letter not in equation)
    hidden = {rank - len(term.replace("...", "")) for term, rank in zip(inputs, ranks, strict=True) if "..." in term}
    if len(hidden) > 1:
        return None
    ellipsis = "".join(next(free) for _ in range(next(iter(hidden), 0)))
    if not arrow:  # as NumPy: the ellipsis, then what occurs once, by the alphabet
        letters = before.replace(".", "").replace(",", "")
        out = "..." + "".join(sorted(letter for letter in set(letters) if letters.count(letter) == 1))
    terms = [term.replace("...", ellipsis) for term in (*inputs, out)]
    return terms if all(len(set(term)) == len(term) for term in terms) else None


def _summed(network: FlatNetwork, node: Node, tensor: Node, letters: str, elsewhere: str) -> tuple[Node, str]:
    """A tensor, added up over the axes that nothing else has."""
    lonely = [axis for axis, letter in enumerate(letters) if letter not in elsewhere]
    if not lonely:
        return tensor, letters
    kept = "".join(letter for letter in letters if letter in elsewhere)
    if network.constant(tensor) is not None:
        return _constant(network, node, tensor, lambda value: value.sum(lonely)), kept
    return network.add_call(aten.sum.dim_IntList, (tensor, lonely), node), kept


def _layer(network: FlatNetwork, node: Node, source: Node, weight: Node, terms: _Terms) -> Node:
    """With a constant: a 1×1 convolution over channels, or a linear layer over the last axis."""
    lengths = dict(zip(terms.right, sides_of(weight), strict=True))
    order = [terms.right.index(letter) for letter in terms.columns + terms.summed]
    outputs, inputs = (math.prod(lengths[letter] for letter in part) for part in (terms.columns, terms.summed))
    at_channels = len(terms.left) == 4 and terms.summed == terms.left[1] and len(terms.columns) == 1
    if at_channels and terms.out == terms.left.replace(terms.summed, terms.columns):
        kernel = _constant(network, node, weight, lambda value: value.permute(order).reshape(outputs, inputs, 1, 1))
        return network.add_call(aten.conv2d.default, (source, kernel), node)
    matrix = _constant(network, node, weight, lambda value: value.permute(order).reshape(outputs, inputs))
    last = _arranged(network, node, source, terms.left, terms.rows + terms.summed)
    rows = sides_of(last)[: len(terms.rows)]
    if len(terms.summed) != 1:
        last = network.add_call(aten.reshape.default, (last, [*rows, inputs]), node)
    product = network.add_call(aten.linear.default, (last, matrix), node)
    if len(terms.columns) != 1:
        shape = [*rows, *map(lengths.__getitem__, terms.columns)]
        product = network.add_call(aten.reshape.default, (product, shape), node)
    return _arranged(network, node, product, terms.rows + terms.columns, terms.out)


def _product(network: FlatNetwork, node: Node, left: Node, right: Node, terms: _Terms) -> Node:
    """Of two tensors: a matrix product for each entry of the axes that all three have."""
    lengths = dict(zip(terms.left + terms.right, sides_of(left) + sides_of(right), strict=True))

    def length(letters: str) -> int:
        known = [lengths[letter] for letter in letters]
        return -1 if -1 in known else math.prod(known)

    def matrices(tensor: Node, letters: str, down: str, across: str) -> Node:
        ordered = _arranged(network, node, tensor, letters, terms.batch + down + across)
        shape = [*map(lengths.__getitem__, terms.batch), length(down), length(across)]
        same = len(down) == len(across) == 1
        return ordered if same else network.add_call(aten.reshape.default, (ordered, shape), node)

    factors = (
        matrices(left, terms.left, terms.rows, terms.summed),
        matrices(right, terms.right, terms.summed, terms.columns),
    )
    product = network.add_call(aten.matmul.default, factors, node)
    letters = terms.batch + terms.rows + terms.columns
    if not len(terms.rows) == len(terms.columns) == 1:
        product = network.add_call(aten.reshape.default, (product, [lengths[letter] for letter in letters]), node)
    return _arranged(network, node, product, letters, terms.out)


def _arranged(network: FlatNetwork, node: Node, tensor: Node, letters: str, wanted: str) -> Node:
    """A tensor with its axes in another order."""
    if letters == wanted:
        return tensor
    return network.add_call(aten.permute.default, (tensor, [letters.index(letter) for letter in wanted]), node)


def _constant(network: FlatNetwork, node: Node, source: Node, compute: Callable[[torch.Tensor], torch.Tensor]) -> Node:
    """A node for what is computed from a constant, once."""
    value = network.constant(source)
    assert value is not None
    new = network.add_constant("weight", compute(value).contiguous(), node)
    network.note(str(new.target), compute, [source])
    return new
