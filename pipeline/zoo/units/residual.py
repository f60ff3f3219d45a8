"""Residual units (ResNet, ResNeXt, SENet) and the network that stacks them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from pipeline.zoo.units.blocks import GlobalAveragePool, make_divisible
from pipeline.zoo.units.pooling import AveragePool
from pipeline.zoo.units.squeeze_excitation import SqueezeExcitation


@dataclass(frozen=True)
class Style:
    """What all units of one network have in common.

    shortcut: what is added where a unit changes the shape (He et al., §3.3): ``A`` the input, subsampled, with zero
    channels behind it; ``B`` a 1×1 projection; ``C`` as B, in the other units too; ``none`` nothing, in no unit.
    stride_on: the convolution of a bottleneck that has the stride, ``1x1`` or ``3x3``.
    cardinality, bottleneck_width: groups of a bottleneck's 3×3, and channels in each where planes are 64 (ResNeXt).
    reduction: of squeeze and excitation at the end of the branch; 0 for none.
    rectified: whether a basic unit's branch passes a ReLU before its squeeze and excitation.
    """

    shortcut: str = "B"
    stride_on: str = "1x1"
    cardinality: int = 1
    bottleneck_width: int = 64
    reduction: int = 0
    rectified: bool = False


class ZeroPadShortcut(nn.Module):
    """The shortcut without weights (He et al., §3.3, option A): every stride-th pixel, zeros for the new channels."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.added = outputs - inputs
        # The average of one pixel: a slice with a step would be left outside XNNPACK.
        self.subsample = AveragePool(inputs, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[N, inputs, H, W]`` to ``[N, outputs, ⌈H/stride⌉, ⌈W/stride⌉]``."""
        return functional.pad(self.subsample(x), (0, 0, 0, 0, 0, self.added))


class ResidualUnit(nn.Module):
    """How every unit ends: squeeze and excitation if any, the shortcut added, ReLU (He et al., equation 1).

    With squeeze and excitation: Hu et al. (2018), figure 3, in the branch before the sum.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, style: Style) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.se = SqueezeExcitation(outputs, max(1, outputs // style.reduction)) if style.reduction else nn.Identity()
        self.downsample = _shortcut(inputs, outputs, stride, style.shortcut)

    def join(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The unit's output, of its input and its branch."""
        y = self.se(y)
        if self.downsample is not None:
            y = y + self.downsample(x)
        out: torch.Tensor = self.relu(y)
        return out


class BasicUnit(ResidualUnit):
    """Two 3×3 convolutions (He et al., figure 5 left). ``[N, inputs, H, W]`` to ``[N, planes, ⌈H/stride⌉, …]``."""

    expansion = 1

    def __init__(self, inputs: int, planes: int, stride: int, style: Style) -> None:
        super().__init__(inputs, planes, stride, style)
        self.conv1 = _convolution(inputs, planes, 3, stride)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = _convolution(planes, planes, 3)
        self.bn2 = nn.BatchNorm2d(planes)
        self.rectify = nn.ReLU() if style.rectified else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Branch and shortcut."""
        y = self.relu(self.bn1(self.conv1(x)))
        return self.join(x, self.rectify(self.bn2(self.conv2(y))))


class Bottleneck(ResidualUnit):
    """1×1 → 3×3 → 1×1, narrow inside (He et al., figure 5 right; with groups Xie et al., 2017, figure 3c).

    ``[N, inputs, H, W]`` to ``[N, 4 · planes, ⌈H/stride⌉, …]``.
    """

    expansion = 4

    def __init__(self, inputs: int, planes: int, stride: int, style: Style) -> None:
        outputs = planes * self.expansion
        super().__init__(inputs, outputs, stride, style)
        inside = max(1, planes * style.bottleneck_width // 64) * style.cardinality
        first, second = (stride, 1) if style.stride_on == "1x1" else (1, stride)
        self.conv1 = _convolution(inputs, inside, 1, first)
        self.bn1 = nn.BatchNorm2d(inside)
        self.conv2 = _convolution(inside, inside, 3, second, style.cardinality)
        self.bn2 = nn.BatchNorm2d(inside)
        self.conv3 = _convolution(inside, outputs, 1)
        self.bn3 = nn.BatchNorm2d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Branch and shortcut."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        return self.join(x, self.bn3(self.conv3(y)))


class ResidualNetwork(nn.Module):
    """7×7 stem and maximum pooling, four stages of units, global average pooling, one linear layer.

    He et al., "Deep Residual Learning for Image Recognition" (2016), table 1. ``repeats`` are the units of each
    stage; ``width`` scales every channel count. ``stem_pool`` says where the pooling's windows begin: ``padded``
    with one row of padding on every side, ``ceil`` at the first pixel and over the far edge (the Caffe releases).
    Names are those of torchvision's state dicts.
    """

    def __init__(
        self,
        unit: type[BasicUnit | Bottleneck],
        repeats: Sequence[int],
        classes: int,
        width: float,
        style: Style,
        stem_pool: str = "padded",
    ) -> None:
        super().__init__()
        stem, *planes = (make_divisible(base * width) for base in (64, 64, 128, 256, 512))
        self.conv1 = _convolution(3, stem, 7, 2)
        self.bn1 = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, padding=1) if stem_pool == "padded" else nn.MaxPool2d(3, 2, ceil_mode=True)
        stages = _stages(unit, stem, planes, repeats, style)
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.avgpool = GlobalAveragePool()
        self.fc = nn.Linear(planes[-1] * unit.expansion, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits ``[N, K]`` of normalised float images ``[N, 3, H, W]``."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        logits: torch.Tensor = self.fc(self.avgpool(x))
        return logits


class SmallResidualNetwork(nn.Module):
    """3×3 stem, three stages of as many basic units each, global average pooling, one linear layer.

    He et al. (2016), §4.2: for pictures of 32×32. ``repeats`` are the units of a stage; ``width`` scales every
    channel count.
    """

    def __init__(self, repeats: int, classes: int, width: float, style: Style) -> None:
        super().__init__()
        stem, *planes = (make_divisible(base * width) for base in (16, 16, 32, 64))
        self.conv1 = _convolution(3, stem, 3)
        self.bn1 = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU()
        self.layer1, self.layer2, self.layer3 = _stages(BasicUnit, stem, planes, [repeats] * 3, style)
        self.avgpool = GlobalAveragePool()
        self.fc = nn.Linear(planes[-1], classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits ``[N, K]`` of normalised float images ``[N, 3, H, W]``."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: torch.Tensor = self.fc(self.avgpool(x))
        return logits


def _stages(
    unit: type[BasicUnit | Bottleneck], inputs: int, planes: Sequence[int], repeats: Sequence[int], style: Style
) -> Iterator[nn.Sequential]:
    for stage, (width, count) in enumerate(zip(planes, repeats, strict=True)):
        first_stride = 1 if stage == 0 else 2
        outputs = width * unit.expansion
        yield nn.Sequential(
            unit(inputs, width, first_stride, style), *(unit(outputs, width, 1, style) for _ in range(count - 1))
        )
        inputs = outputs


def _shortcut(inputs: int, outputs: int, stride: int, kind: str) -> nn.Module | None:
    if kind == "none":
        return None
    if kind != "C" and stride == 1 and inputs == outputs:
        return nn.Identity()
    if kind == "A":
        return ZeroPadShortcut(inputs, outputs, stride)
    return nn.Sequential(_convolution(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
