"""The inception unit: filters of several sizes side by side, made affordable by 1×1 reductions."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

import torch
from torch import nn

BATCH_NORM_EPS = 1e-3


class Convolution(nn.Sequential):
    """Convolution → batch norm, where asked for, → ReLU; "same" padding at odd kernels.

    Without batch norm the convolution has a bias. The names are those of torchvision's state dict.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, batch_norm: bool = False) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        layers["conv"] = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=not batch_norm)
        if batch_norm:
            layers["bn"] = nn.BatchNorm2d(outputs, eps=BATCH_NORM_EPS)
        layers["relu"] = nn.ReLU()
        super().__init__(layers)


class Inception(nn.Module):
    """Four branches on one input, their outputs joined by channels.

    Szegedy et al., "Going Deeper with Convolutions" (2014), §4 and figure 2b: 1×1; 1×1 reduction → 3×3;
    1×1 reduction → 5×5; 3×3 maximum pooling → 1×1 projection. ``widths`` are the numbers of table 1 in its order.
    ``branch5_kernel`` is the kernel of the third branch. Shape ``[N, inputs, H, W]`` to ``[N, outputs, H, W]``.
    """

    def __init__(self, inputs: int, widths: tuple[int, ...], branch5_kernel: int = 5, batch_norm: bool = False) -> None:
        super().__init__()
        one, reduced3, three, reduced5, five, projected = widths
        convolution = partial(Convolution, batch_norm=batch_norm)
        self.outputs = one + three + five + projected
        self.branch1 = convolution(inputs, one, 1)
        self.branch2 = nn.Sequential(convolution(inputs, reduced3, 1), convolution(reduced3, three, 3))
        self.branch3 = nn.Sequential(convolution(inputs, reduced5, 1), convolution(reduced5, five, branch5_kernel))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), convolution(inputs, projected, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """All four branches, in the order of the class's description."""
        return torch.cat((self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)), 1)
