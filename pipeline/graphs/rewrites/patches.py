"""``unfold`` and ``fold`` in operators that runtimes have: patches as channels, and back.

::

    unfold, windows side by side  →  reshape [N · C, H / k, k, W / k, k] → permute → reshape
    unfold, windows that overlap  →  a depthwise convolution that copies: one weight of 1 for each value of a window
    fold, windows side by side    →  the first one backwards

LiteRT's converter writes ``fold`` as a scatter that no runtime has, and ``unfold`` as gathers outside the delegate.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.fx import Node
from torch.nn import functional

from pipeline.graphs.flat import FlatNetwork
from pipeline.graphs.shapes import FREE, several_free, sides_of
from pipeline.graphs.units import Permuted

aten: Any = torch.ops.aten


class CopyPatches(nn.Module):
    """Windows as columns, copied by a convolution with weights 0 and 1."""

    weight: torch.Tensor

    def __init__(self, channels: int, kernel: list[int], stride: list[int], padding: list[int], dilation: list[int]):
        super().__init__()
        self.channels, self.stride, self.padding, self.dilation = channels, stride, padding, dilation
        values = kernel[0] * kernel[1]
        copies = torch.eye(values).view(values, 1, *kernel).repeat(channels, 1, 1, 1)
        self.register_buffer("weight", copies, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[N, C, H, W]`` to ``[N, C · kernel height · kernel width, windows]``."""
        columns = functional.conv2d(x, self.weight, None, self.stride, self.padding, self.dilation, self.channels)
        return columns.flatten(2)


def write_patches(network: FlatNetwork) -> None:
    """Put these in the places of ``unfold`` and ``fold``."""
    for node in network.nodes:
        unit = {aten.im2col.default: _unfold, aten.col2im.default: _fold}.get(node.target, lambda _: None)(node)
        if unit is not None:
            network.replace(
                node, unit, node.all_input_nodes, "unfold" if node.target == aten.im2col.default else "fold"
            )
    network.clean()


def _unfold(node: Node) -> nn.Module | None:
    source, kernel, dilation, padding, stride = map(_argument, node.args)
    sides = sides_of(source)
    if len(sides) != 4 or FREE in sides[1:]:
        return None
    _, channels, *plane = sides
    if _side_by_side(plane, kernel, dilation, padding, stride):
        (down, across), (high, wide) = kernel, [side // k for side, k in zip(plane, kernel, strict=True)]
        result = (-1, channels * down * across, high * wide)
        return Permuted((-1, high, down, wide, across), (0, 2, 4, 1, 3), result)
    return CopyPatches(channels, kernel, stride, padding, dilation)


def _fold(node: Node) -> nn.Module | None:
    source, plane, kernel, dilation, padding, stride = map(_argument, node.args)
    sides = sides_of(source)
    if len(sides) != 3 or several_free(sides) or not _side_by_side(plane, kernel, dilation, padding, stride):
        return None
    (down, across), (high, wide) = kernel, [side // k for side, k in zip(plane, kernel, strict=True)]
    channels = sides[1] // (down * across)
    return Permuted((-1, down, across, high, wide), (0, 3, 1, 4, 2), (-1, channels, *plane))


def _argument(value: Any) -> Any:
    return value if isinstance(value, Node) else [int(number) for number in value]


def _side_by_side(plane: Any, kernel: Any, dilation: Any, padding: Any, stride: Any) -> bool:
    """Whether windows cover the plane without gaps and without meeting."""
    whole = all(side % k == 0 for side, k in zip(plane, kernel, strict=True))
    return whole and kernel == stride and dilation == [1, 1] and padding == [0, 0]
