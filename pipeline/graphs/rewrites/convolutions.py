"""Convolutions whose form some converter or the quantizer does not know, as ones that all of them know.

::

    conv2d(x, padding="same")                          →  conv2d(x, padding=p), or pad → conv2d
    conv_transpose2d(x, padding=p, output_padding=o)   →  conv_transpose2d(x, padding=p − o) → slice

The numbers stay the same.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node
from torch.nn import functional

from pipeline.graphs.flat import FlatNetwork

aten: Any = torch.ops.aten

ROWS, COLUMNS = 2, 3
"""Axes of ``[N, C, H, W]``."""


def plain_paddings(network: FlatNetwork) -> None:
    """Write two-dimensional convolutions with ``padding="same"`` or ``"valid"`` with numbers.

    Where both ends of an axis need another amount (an even kernel), PyTorch adds the odd one at the end; the input is
    then padded by an operator of its own.
    """
    for node in network.nodes:
        if node.target != aten.conv2d.padding:
            continue
        source, weight, bias, stride, padding, dilation, groups = _arguments(node, None, 1, "valid", 1, 1)
        reach = [d * (k - 1) for d, k in zip(_pair(dilation), network.sides(weight)[ROWS:], strict=True)]
        if padding == "valid":
            reach = [0, 0]
        before, odd = [total // 2 for total in reach], [total % 2 for total in reach]
        if any(odd):
            (top, left), (down, across) = before, odd
            source = network.add_call(aten.pad.default, (source, [left, left + across, top, top + down]), node)
            before = [0, 0]
        node.target, node.kwargs = aten.conv2d.default, {}
        node.args = (source, weight, bias, _pair(stride), before, _pair(dilation), groups)


def plain_transposed_convolutions(network: FlatNetwork) -> None:
    """Write two-dimensional transposed convolutions with ``output_padding`` without it: LiteRT's converter has none.

    Padding cuts from both ends of the result; ``output_padding`` cuts that much less from the far end. So as much less
    is cut from both, and the near end is sliced off. Where padding is smaller than that, the kernel gets columns of
    zeros at its far end, which lengthen the result there.
    """
    for node in network.nodes:
        if node.target != aten.conv_transpose2d.input:
            continue
        source, weight, bias, stride, padding, extra, groups, dilation = _arguments(node, None, 1, 0, 0, 1, 1)
        padding, extra, dilation = _pair(padding), _pair(extra), _pair(dilation)
        kernel = network.constant(weight)
        if not any(extra) or kernel is None:
            continue
        zeros = [0 if p >= o else -(-o // d) for p, o, d in zip(padding, extra, dilation, strict=True)]
        if any(zeros):
            weight = _with_zeros(network, node, weight, zeros)
        starts = [0 if z else o for o, z in zip(extra, zeros, strict=True)]
        kept = [p - start for p, start in zip(padding, starts, strict=True)]
        arguments = (source, weight, bias, _pair(stride), kept, [0, 0], groups, dilation)
        whole = network.add_call(node.target, arguments, node)
        network.redirect(node, _cut(network, node, whole, starts))
    network.clean()


def _cut(network: FlatNetwork, node: Node, whole: Node, starts: list[int]) -> Node:
    """The part of a result that has the size of a node's, from these rows and columns on."""
    cut = whole
    for axis, start in zip((ROWS, COLUMNS), starts, strict=True):
        length = network.sides(node)[axis]
        if network.sides(whole)[axis] != length:
            cut = network.add_call(aten.slice.Tensor, (cut, axis, start, start + length), node)
    return cut


def _with_zeros(network: FlatNetwork, node: Node, weight: Node, zeros: list[int]) -> Node:
    """The weight ``[inputs, outputs, h, w]`` with rows and columns of zeros at the end."""

    def lengthened(kernel: torch.Tensor) -> torch.Tensor:
        return functional.pad(kernel, [0, zeros[1], 0, zeros[0]])

    kernel = network.constant(weight)
    assert kernel is not None
    new = network.add_constant("weight", lengthened(kernel), node)
    network.note(str(new.target), lengthened, [weight])
    return new


def _arguments(node: Node, *defaults: Any) -> tuple[Any, ...]:
    """All arguments of a convolution; those behind the weight have defaults."""
    given = list(node.args)
    names = [argument.name for argument in node.target._schema.arguments]  # type: ignore[union-attr]
    rest = (given[i] if i < len(given) else node.kwargs.get(names[i], default) for i, default in enumerate(defaults, 2))
    return (*given[:2], *rest)


def _pair(value: Any) -> list[int]:
    numbers = [value] * 2 if isinstance(value, int) else list(value)
    return [int(numbers[0]), int(numbers[-1])]
