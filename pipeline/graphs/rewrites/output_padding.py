"""Transposed convolutions with ``output_padding``, which LiteRT's converter does not have, as those without.

::

    conv_transpose2d(x, padding=p, output_padding=o)   →  conv_transpose2d(x, padding=p − o) → slice

The numbers stay the same.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node
from torch.nn import functional

from pipeline.graphs.arguments import arguments_of, pair_of
from pipeline.graphs.flat import FlatNetwork
from pipeline.graphs.shapes import sides_of

aten: Any = torch.ops.aten

ROWS, COLUMNS = 2, 3
"""Axes of ``[N, C, H, W]``."""


def plain_transposed_convolutions(network: FlatNetwork) -> None:
    """Write two-dimensional transposed convolutions with ``output_padding`` as those without it.

    Padding cuts from both ends of the result; ``output_padding`` cuts that much less from the far end. So as much less
    is cut from both, and the near end is sliced off. Where padding is smaller than that, the kernel gets columns of
    zeros at its far end, which lengthen the result there.
    """
    for node in network.nodes:
        if node.target != aten.conv_transpose2d.input:
            continue
        source, weight, bias, stride, padding, extra, groups, dilation = arguments_of(
            node, None, None, None, 1, 0, 0, 1, 1
        )
        padding, extra, dilation = [*pair_of(padding)], [*pair_of(extra)], [*pair_of(dilation)]
        kernel = network.constant(weight)
        if not any(extra) or kernel is None:
            continue
        zeros = [0 if p >= o else -(-o // d) for p, o, d in zip(padding, extra, dilation, strict=True)]
        if any(zeros):
            weight = _with_zeros(network, node, weight, zeros)
        starts = [0 if z else o for o, z in zip(extra, zeros, strict=True)]
        kept = [p - start for p, start in zip(padding, starts, strict=True)]
        arguments = (source, weight, bias, [*pair_of(stride)], kept, [0, 0], groups, dilation)
        whole = network.add_call(node.target, arguments, node)
        network.redirect(node, _cut(network, node, whole, starts))
    network.clean()


def _cut(network: FlatNetwork, node: Node, whole: Node, starts: list[int]) -> Node:
    """Return the part of a result that has the size of a node's, from these rows and columns on."""
    cut = whole
    for axis, start in zip((ROWS, COLUMNS), starts, strict=True):
        length = sides_of(node)[axis]
        if sides_of(whole)[axis] != length:
            cut = network.add_call(aten.slice.Tensor, (cut, axis, start, start + length), node)
    return cut


def _with_zeros(network: FlatNetwork, node: Node, weight: Node, zeros: list[int]) -> Node:
    """Return the weight ``[inputs, outputs, h, w]`` with rows and columns of zeros at the end."""

    def lengthened(kernel: torch.Tensor) -> torch.Tensor:
        return functional.pad(kernel, [0, zeros[1], 0, zeros[0]])

    kernel = network.constant(weight)
    assert kernel is not None
    new = network.add_constant("weight", lengthened(kernel), node)
    network.note(str(new.target), lengthened, [weight])
    return new
