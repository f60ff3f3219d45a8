"""What stands in a rewritten network where an operator stood that some runtime leaves outside its delegate."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

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


class HardSigmoid(nn.Module):
    """``relu6(x + 3) / 6``: ReLU6 fuses with the sum in every runtime, which a clamp to 0…1 does not in LiteRT."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        ones = torch.ones(channels)
        self.shift = ChannelScale(ones, 3 * ones)
        self.scale = ChannelScale(ones / 6, 0 * ones)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[N, C, H, W]`` or ``[N, C]`` to the same shape."""
        gate: torch.Tensor = self.scale(functional.relu6(self.shift(x)))
        return gate


class HardSwish(HardSigmoid):
    """``x · hardsigmoid(x)``: Howard et al., "Searching for MobileNetV3" (2019), §5.2."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[N, C, H, W]`` or ``[N, C]`` to the same shape."""
        return x * super().forward(x)


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


class OverhangingMaximum(nn.Module):
    """Maximum over windows the last of which reach over the lower and right edge: ``max_pool2d`` with ``ceil_mode``.

    The edge is repeated ``overhang`` times: every window that reaches over it holds it already, so its maximum stays,
    whatever the sign. Not padded with zeros: in int8 XNNPACK pads in float, and LiteRT transposes around it.
    """

    def __init__(
        self,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        padding: tuple[int, int],
        dilation: tuple[int, int],
        overhang: tuple[int, int],
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.padding, self.dilation = kernel, stride, padding, dilation
        self.overhang = overhang

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[N, C, H, W]`` to as many windows as begin inside the picture."""
        down, right = self.overhang
        if down:
            x = torch.cat([x, *[x[:, :, -1:]] * down], 2)
        if right:
            x = torch.cat([x, *[x[:, :, :, -1:]] * right], 3)
        return functional.max_pool2d(x, self.kernel, self.stride, self.padding, self.dilation)


class Split(nn.Module):
    """The parts of a tensor as slices: ``split`` itself is left outside XNNPACK."""

    def __init__(self, sizes: tuple[int, ...], axis: int) -> None:
        super().__init__()
        self.sizes, self.axis = sizes, axis

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Parts of these sizes along the axis."""
        whole = (slice(None),) * self.axis
        starts = [sum(self.sizes[:i]) for i in range(len(self.sizes))]
        return tuple(x[(*whole, slice(start, start + size))] for start, size in zip(starts, self.sizes, strict=True))
