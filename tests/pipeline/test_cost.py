"""The counter, against sums done by hand."""

import pytest
import torch
from torch import nn

from pipeline.cost import count
from pipeline.zoo.units.blocks import ConvBatchNorm, FeatureClassifier


def test_one_convolution_by_hand() -> None:
    """5×5 kernel, stride 2, padding 2, groups 3: 33×20 becomes 17×10; every output is 25 · (6/3) products."""
    layer = nn.Conv2d(6, 9, 5, stride=2, padding=2, groups=3, bias=True)
    network = nn.Sequential(nn.Conv2d(3, 6, 1, bias=False), layer)
    cost = count(network, 33, 20)
    assert cost.mult_adds == 33 * 20 * 6 * 3 + 17 * 10 * 9 * (25 * 2)
    assert cost.params == 6 * 3 + 9 * 2 * 25 + 9


def test_a_depthwise_and_a_linear_layer_by_hand() -> None:
    features = nn.Sequential(ConvBatchNorm(3, 8, stride=2), ConvBatchNorm(8, 8, groups=8))
    cost = count(FeatureClassifier(features, nn.Sequential(nn.Linear(8, 5))), 32, 32)
    assert cost.mult_adds == 16 * 16 * 8 * 27 + 16 * 16 * 8 * 9 + 8 * 5
    assert cost.params == (8 * 27 + 2 * 8) + (8 * 9 + 2 * 8) + (8 * 5 + 5)
    assert cost.size_mb == round(cost.params * 4 / 1e6, 3)
    assert cost.peak_activation == 2 * 16 * 16 * 8  # 16 bit, what the first unit hands to the second


def test_the_inside_of_a_unit_is_no_peak() -> None:
    wide = nn.Sequential(nn.Conv2d(3, 64, 1), nn.Conv2d(64, 4, 1))
    cost = count(FeatureClassifier(nn.Sequential(wide), nn.Sequential(nn.Linear(4, 2))), 8, 8)
    assert cost.peak_activation == 2 * 8 * 8 * 4


def test_nothing_is_computed() -> None:
    """A network of 4 TB is counted."""
    with torch.device("meta"):
        network = nn.Sequential(nn.Conv2d(3, 1_000_000, 1, bias=False), nn.Conv2d(1_000_000, 1_000_000, 1, bias=False))
    cost = count(network, 2, 2)
    assert cost.params == 3_000_000 + 10**12
    assert cost.mult_adds == 4 * cost.params


def test_the_network_is_left_as_it_is() -> None:
    """In training mode, which batch norm of one picture at 1×1 refuses; with its weights, and without hooks."""
    network = nn.Sequential(ConvBatchNorm(3, 4)).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert count(network, 1, 1).params == 3 * 4 * 9 + 8
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize("size", [1, 2, 3])
def test_same_padding_at_tiny_sizes(size: int) -> None:
    outputs = (size + 1) // 2
    assert count(nn.Sequential(ConvBatchNorm(3, 2, stride=2)), size, size).mult_adds == outputs**2 * 2 * 27
