"""Convolutions whose padding is a word, as convolutions with numbers.

::

    conv2d(x, padding="same")   →  conv2d(x, padding=p)           odd kernels
    conv2d(x, padding="same")   →  pad(x) → conv2d(padding=0)     even kernels
    conv2d(x, padding="valid")  →  conv2d(x, padding=0)
"""

from __future__ import annotations

from typing import Any

import torch

from pipeline.graphs.arguments import arguments_of, pair_of
from pipeline.graphs.flat import FlatNetwork
from pipeline.graphs.shapes import sides_of

aten: Any = torch.ops.aten


def plain_paddings(network: FlatNetwork) -> None:
    """Write two-dimensional convolutions with ``padding="same"`` or ``"valid"`` with numbers.

    Where both ends of an axis need another amount (an even kernel), PyTorch adds the odd one at the end; the input is
    then padded by an operator of its own.
    """
    for node in network.nodes:
        if node.target != aten.conv2d.padding:
            continue
        source, weight, bias, stride, padding, dilation, groups = arguments_of(node, None, None, None, 1, "valid", 1, 1)
        reach = [d * (k - 1) for d, k in zip(pair_of(dilation), sides_of(weight)[2:], strict=True)]
        if padding == "valid":
            reach = [0, 0]
        before, odd = [total // 2 for total in reach], [total % 2 for total in reach]
        if any(odd):
            (top, left), (down, across) = before, odd
            source = network.add_call(aten.pad.default, (source, [left, left + across, top, top + down]), node)
            before = [0, 0]
        node.target, node.kwargs = aten.conv2d.default, {}
        node.args = (source, weight, bias, [*pair_of(stride)], before, [*pair_of(dilation)], groups)
