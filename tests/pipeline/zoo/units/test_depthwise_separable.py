"""The depthwise separable convolution: equal to the one convolution that it factorises, and cheaper."""

import torch
from torch import nn
from torch.nn import functional

from pipeline.zoo.units.depthwise_separable import DepthwiseSeparable


def test_it_filters_each_channel_and_then_combines() -> None:
    """Without the ReLU between them, the two layers are one 3×3 convolution with an outer-product kernel."""
    torch.manual_seed(0)
    unit = DepthwiseSeparable(4, 6, stride=2).eval()
    unit.depthwise[2] = nn.Identity()
    depthwise, pointwise = unit.depthwise[0].weight, unit.pointwise[0].weight
    kernel = pointwise * depthwise.transpose(0, 1)  # [6, 4, 1, 1] · [1, 4, 3, 3]
    x = torch.randn(2, 4, 9, 8)
    expected = functional.conv2d(x, kernel, stride=2, padding=1) / (1 + 1e-5)  # two fresh batch norms
    assert torch.allclose(unit(x), expected.relu(), atol=1e-5)


def test_cost_against_one_convolution() -> None:
    """1/outputs + 1/9 of the weights (§3.1)."""
    unit, outputs = DepthwiseSeparable(32, 64), 64
    weights = sum(m.weight.numel() for m in unit.modules() if isinstance(m, nn.Conv2d))
    assert weights * 9 * outputs == 9 * 32 * 64 * (9 + outputs)
