"""Modules that several rewrites put into a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from pipeline.graphs.shapes import Shape, shape_of
from pipeline.zoo.units.pooling import AveragePool


class ChannelScale(nn.Module):
    """``scale · x + shift`` per channel, as a depthwise 1×1 convolution: int8 has no arithmetic with numbers."""

    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(self, scale: torch.Tensor, shift: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", scale.view(-1, 1, 1, 1), persistent=False)
        self.register_buffer("bias", shift, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[N, C, …]`` of any rank to the same shape."""
        planes = x if x.dim() == 4 else x.reshape(x.shape[0], len(self.bias), -1, 1)
        scaled = functional.conv2d(planes, self.weight, self.bias, groups=len(self.bias))
        return scaled if x.dim() == 4 else scaled.reshape(x.shape)


class Mean(nn.Module):
    """The mean over H and W; without ``keep`` flattened afterwards, because a mean that drops axes is not delegated.

    ``windows`` averages neighbours first: the kernels of XNNPACK and LiteRT add one float32 after the other, which of
    300×300 equal values is 4e-5 too much (PyTorch: 5e-7; decision 0012).
    """

    def __init__(self, keep: bool, windows: Sequence[AveragePool] = ()) -> None:
        super().__init__()
        self.keep, self.windows = keep, nn.Sequential(*windows)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[N, C, H, W]`` to ``[N, C, 1, 1]``, or to ``[N, C]``."""
        mean: torch.Tensor = self.windows(x).mean((2, 3), keepdim=True)
        return mean if self.keep else mean.flatten(1)


LONG_SUM, SHORT_SUM = 2048, 64
"""A mean over more values than the first is taken by windows, until no more than the second are left to add up."""

LARGEST_WINDOW = 8


def plane_mean(source: Any, keep: bool) -> Mean:
    """Return the mean over a plane; of a long sum, that of windows first, if windows of one size cover it."""
    _, channels, height, width = shape_of(source)
    windows: list[AveragePool] = []
    while height * width > (SHORT_SUM if windows else LONG_SUM):
        fitting = (side for side in range(LARGEST_WINDOW, 1, -1) if height % side == width % side == 0)
        side = next(fitting, None)
        if side is None:
            break
        windows.append(AveragePool(channels, side, side))
        height, width = height // side, width // side
    return Mean(keep, windows)


class Reshape(nn.Module):
    """To another shape, in which the batch's side is −1."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The same values in the same order."""
        return x.reshape(self.shape)


class Picked(nn.Module):
    """A slice of length ``stop − start`` along an axis, in another shape."""

    def __init__(self, axis: int, start: int, stop: int, shape: Shape) -> None:
        super().__init__()
        self.axis, self.start, self.stop, self.shape = axis, start, stop, shape

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Values start … stop − 1 of the axis."""
        return x[(*[slice(None)] * self.axis, slice(self.start, self.stop))].reshape(self.shape)


class Permuted(nn.Module):
    """Reshape, permute, reshape."""

    def __init__(self, shape: Shape, order: Sequence[int], result: Shape) -> None:
        super().__init__()
        self.shape, self.order, self.result = shape, tuple(order), result

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """To the shape ``result``."""
        return x.reshape(self.shape).permute(self.order).reshape(self.result)


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
