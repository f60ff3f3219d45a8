"""Maximum pooling with ``ceil_mode``, as maximum pooling of a map whose edge is repeated.

::

    max_pool2d(x [N, C, 6, 6], 3, stride 2, ceil_mode)   →   cat(x, last row) → cat(…, last column) → max_pool2d(3, 2)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.fx import Node
from torch.nn import functional

from pipeline.graphs.arguments import arguments_of, pair_of
from pipeline.graphs.shapes import shape_of

aten: Any = torch.ops.aten


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


def maximum(node: Node) -> nn.Module | None:
    """Return another form where ``ceil_mode`` needs one, which it does not where it is TensorFlow's padding ``SAME``.

    ExecuTorch and Core ML take it as it is, LiteRT's converter only so. Measured with litert-torch 0.10 in 46 cases:
    one MAX_POOL_2D there; elsewhere a PADV2 outside the delegate, or (kernel 3, stride 2 on 7×8) wrong values.
    """
    source, kernel, stride, padding, dilation, ceil = arguments_of(node, None, None, [], [0, 0], [1, 1], False)
    shape, kernel, padding, dilation = shape_of(source), pair_of(kernel), pair_of(padding), pair_of(dilation)
    stride = pair_of(stride) if stride else kernel
    if not ceil or len(shape) != 4:
        return None
    overhang = overhangs(shape[2:], kernel, stride, padding, dilation)
    if not any(overhang):
        return nn.MaxPool2d(kernel, stride, padding, dilation)
    unpadded = (padding, dilation) == ((0, 0), (1, 1))
    if unpadded and max(overhang) == 1 and overhang == _same_padding(shape[2:], kernel, stride):
        return None  # SAME puts half of it, rounded down, in front: of 1 nothing
    return OverhangingMaximum(kernel, stride, padding, dilation, overhang)


def _same_padding(sides: tuple[int, ...], kernel: tuple[int, int], stride: tuple[int, int]) -> tuple[int, ...]:
    """Return how much ``SAME`` adds to each axis, for ⌈side / stride⌉ windows."""
    axes = zip(sides, kernel, stride, strict=True)
    return tuple(max(0, (-(-side // s) - 1) * s + k - side) for side, k, s in axes)


def overhangs(
    sides: tuple[int, ...],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> tuple[int, int]:
    """Return how far the last window reaches over the padded lower and right edge in ``ceil_mode``."""
    found = []
    for side, k, s, p, d in zip(sides, kernel, stride, padding, dilation, strict=True):
        reach = d * (k - 1) + 1
        windows = -(-(side + 2 * p - reach) // s) + 1
        if (windows - 1) * s >= side + p:  # a window must begin inside the picture or its upper padding
            windows -= 1
        found.append(max(0, (windows - 1) * s + reach - side - 2 * p))
    return found[0], found[1]


UNITS: dict[Any, Callable[[Node], nn.Module | None]] = {aten.max_pool2d.default: maximum}
