"""Pooling in forms that every delegate takes whole, in float and in int8."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.dlpack import from_dlpack


class AveragePool(nn.Module):
    """Average over windows, zero padding counted, as a depthwise convolution with constant weights ``1 / divisor``.

    Kernel, stride and padding are numbers or pairs; ``divisor`` is the number of a window's values if None. Equal to
    ``nn.AvgPool2d``, which XNNPACK does not take in int8, and with padding not in float either. No state dict holds
    the weights.
    """

    weight: torch.Tensor

    def __init__(
        self,
        channels: int,
        kernel: int | tuple[int, int],
        stride: int | tuple[int, int],
        padding: int | tuple[int, int] = 0,
        divisor: int | None = None,
    ) -> None:
        super().__init__()
        self.channels, self.stride, self.padding = channels, stride, padding
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        weight = torch.full((channels, 1, height, width), 1 / (divisor or height * width))
        self.register_buffer("weight", weight, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[N, C, H, W]`` to ``[N, C, (H + 2·padding − kernel) / stride + 1, …]``, rounded down."""
        return functional.conv2d(x, self.weight, None, self.stride, self.padding, groups=self.channels)


class GridPool(nn.Module):
    """Average pooling of a map of any size to grid × grid positions, with one window size and one stride per side.

    Identity where the map is grid × grid already. Else, on each side, ``stride = side // grid`` and
    ``kernel = side − (grid − 1) · stride``: the windows cover the side from edge to edge. That is
    ``nn.AdaptiveAvgPool2d(grid)`` wherever its bins are regular, as at every multiple of the grid and one more
    (8 to 7). Elsewhere (10 to 7) those bins differ in width and distance, which no delegate takes; these do not. A
    depthwise convolution for the reason given at ``AveragePool``.
    """

    def __init__(self, grid: int) -> None:
        super().__init__()
        self.grid = grid

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[N, C, H, W]``, H and W not below the grid, to ``[N, C, grid, grid]``."""
        height, width = x.shape[2:]
        if height == width == self.grid:
            return x
        strides = (height // self.grid, width // self.grid)
        kernel = (height - (self.grid - 1) * strides[0], width - (self.grid - 1) * strides[1])
        return functional.conv2d(x, _box(kernel, x), None, strides, groups=x.shape[1])

    def extra_repr(self) -> str:
        """For ``repr``."""
        return f"grid={self.grid}"


def _box(kernel: tuple[int, int], x: torch.Tensor) -> torch.Tensor:
    """Depthwise weights that average, of the dtype and on the device of ``x``.

    Their size is known only once there is a map, and every target wants constants. An array that enters by DLPack
    is one under ``torch.export`` too, where ``torch.full`` would be an operator of the graph.
    """
    dtype = np.float16 if x.dtype == torch.float16 else np.float32
    weights: torch.Tensor = from_dlpack(np.full((x.shape[1], 1, *kernel), 1 / (kernel[0] * kernel[1]), dtype))
    there = (weights.dtype, weights.device) == (x.dtype, x.device)
    return weights if there else weights.to(x)  # an operator of the graph even where it changes nothing
