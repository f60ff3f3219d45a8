"""Which axis of a tensor holds the channels of a layer and which the images of a batch, whatever its rank."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node

aten = torch.ops.aten

CHANNEL_AXES = {aten.conv2d.default: -3, aten.linear.default: -1}
"""Counted from the end: a convolution takes ``[N, C, H, W]``; a linear layer takes ``[N, C]``, tokens ``[N, T, C]`` or
``[T, N, C]``, or pixels ``[N, H, W, C]``."""


def channel_axis(operator: Any) -> int:
    """Return the axis of a convolution's or linear layer's channels, counted from the end."""
    return CHANNEL_AXES[operator]


def by_channel(operator: Any) -> tuple[int, ...]:
    """Return the shape in which one value per output channel broadcasts to the layer's output."""
    return (-1, *[1] * (-channel_axis(operator) - 1))


def channels_last(operator: Any, values: torch.Tensor) -> torch.Tensor:
    """Return a layer's input or output with its channels as the last axis, as a view."""
    return values.movedim(channel_axis(operator), -1)


def batch_axis(node: Node) -> int:
    """Return the axis that grows with the number of images: the first that capture left free, 0 if none is.

    It need not hold one entry per image: window attention computes on ``[N · windows, T, C]``.
    """
    sides = enumerate(node.meta["val"].shape)
    return next((axis for axis, side in sides if not isinstance(side, int)), 0)
