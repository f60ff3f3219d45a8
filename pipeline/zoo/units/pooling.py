"""Pooling in forms that every delegate takes whole, in float and in int8."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class AveragePool(nn.Module):
    """Average over kernel × kernel windows, zero padding counted, as a depthwise convolution with weights 1/kernel².

    Equal to ``nn.AvgPool2d(kernel, stride, padding)``, which XNNPACK does not take in int8, and with padding not in
    float either. The weights are constants: no state dict holds them.
    """

    weight: torch.Tensor

    def __init__(self, channels: int, kernel: int, stride: int, padding: int = 0) -> None:
        super().__init__()
        self.channels, self.stride, self.padding = channels, stride, padding
        weight = torch.full((channels, 1, kernel, kernel), 1 / kernel**2)
        self.register_buffer("weight", weight, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[N, C, H, W]`` to ``[N, C, (H + 2·padding − kernel) / stride + 1, …]``, rounded down."""
        return functional.conv2d(x, self.weight, None, self.stride, self.padding, groups=self.channels)


class CeilMaxPool(nn.Module):
    """Maximum over kernel × kernel windows, the last of which may reach over the right and lower edge.

    Equal to ``nn.MaxPool2d(kernel, stride, padding, ceil_mode=True)`` for inputs that are not negative (it follows
    a ReLU everywhere here): the overhang is padded with zeros, because XNNPACK takes no ``ceil_mode``.
    """

    def __init__(self, kernel: int, stride: int, padding: int = 0) -> None:
        super().__init__()
        self.kernel, self.stride, self.padding = kernel, stride, padding

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[N, C, H, W]`` to ``[N, C, ⌈(H + 2·padding − kernel) / stride⌉ + 1, …]``."""
        bottom, right = (self._overhang(side) for side in x.shape[2:])
        if bottom or right:
            x = functional.pad(x, (0, right, 0, bottom))
        return functional.max_pool2d(x, self.kernel, self.stride, self.padding)

    def _overhang(self, side: int) -> int:
        return (self.kernel - side - 2 * self.padding) % self.stride
