"""The counter, against sums done by hand."""

import pytest
import torch
from torch import nn

from pipeline import zoo
from pipeline.errors import BadInput
from pipeline.zoo.complexity.count import count, count_model
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


class Unit(nn.Sequential):
    """A block: what is inside is its own affair."""


def test_the_inside_of_a_unit_is_no_peak() -> None:
    """64 channels inside; the first unit's 6 are left out, the second hands on 4."""
    wide = Unit(nn.Conv2d(6, 64, 1), nn.Conv2d(64, 4, 1))
    cost = count(FeatureClassifier(nn.Sequential(nn.Conv2d(3, 6, 1), wide), nn.Sequential(nn.Linear(4, 2))), 8, 8)
    assert cost.peak_activation == 2 * 8 * 8 * 4
    assert [unit.path for unit in cost.units] == ["features.0", "features.1", "pool", "classifier.0"]


def test_both_rules_of_the_peak() -> None:
    """8 channels at 16², 4 at 16², 12 at 8²: without the first unit 4·16², without its resolution 12·8²."""
    layers = (nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1), nn.Conv2d(4, 12, 1, 2))
    cost = count(nn.Sequential(*layers), 16, 16)
    assert (cost.peak_activation, cost.peak_after_first_resolution) == (2 * 16 * 16 * 4, 2 * 8 * 8 * 12)
    alone = count(nn.Sequential(nn.Conv2d(3, 8, 1)), 16, 16)
    assert alone.peak_activation == alone.peak_after_first_resolution == 2 * 16 * 16 * 8


def test_units_take_in_what_follows_without_a_layer_and_without_a_change_of_shape() -> None:
    stage = nn.Sequential(Unit(nn.Conv2d(8, 8, 1, bias=False)), nn.Dropout())
    network = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), stage)
    units = count(network, 8, 8).units
    assert [(unit.path, unit.kind, unit.output) for unit in units] == [
        ("0", "3×3 conv", (8, 4, 4)),
        ("3", "MaxPool2d", (8, 2, 2)),
        ("4.0", "Unit", (8, 2, 2)),
    ]
    assert [unit.params for unit in units] == [3 * 8 * 9 + 8 + 16, 0, 64]
    assert [unit.mult_adds for unit in units] == [16 * 8 * 27, 0, 4 * 64]


def test_the_layer_table() -> None:
    layers = (nn.Conv2d(4, 8, (1, 3), groups=2), nn.Conv2d(8, 8, 3, groups=8, bias=False), nn.Flatten())
    network = nn.Sequential(nn.Conv2d(3, 4, 1), *layers, nn.Linear(8 * 4 * 2, 5))
    cost = count(network, 6, 6)
    assert [(layer.path, layer.kind, layer.output) for layer in cost.layers] == [
        ("0", "1×1 conv", (4, 6, 6)),
        ("1", "1×3 conv, 2 groups", (8, 6, 4)),
        ("2", "3×3 depthwise conv", (8, 4, 2)),
        ("4", "linear", (5,)),
    ]
    assert [layer.weights for layer in cost.layers] == [12, 8 * 2 * 3, 72, 320]
    assert [layer.params for layer in cost.layers] == [16, 56, 72, 325]
    mult_adds = [36 * 12, 24 * 48, 8 * 72, 320]
    assert [layer.mult_adds for layer in cost.layers] == mult_adds
    assert (cost.mult_adds, cost.weights, cost.params) == (sum(mult_adds), 452, 469)
    assert cost.by_kind()["1×3 conv, 2 groups"] == (48, 1152)
    assert list(cost.by_kind()) == ["1×3 conv, 2 groups", "3×3 depthwise conv", "1×1 conv", "linear"]
    assert cost.shares(cost.layers[3]) == {"params_share": 325 / 469, "mult_adds_share": 320 / sum(mult_adds)}


def test_a_layer_that_is_called_twice_is_paid_twice_and_owned_once() -> None:
    shared = nn.Conv2d(3, 3, 1, bias=False)
    cost = count(nn.Sequential(shared, nn.ReLU(), shared), 4, 4)
    assert (cost.mult_adds, cost.params, cost.weights) == (2 * 16 * 9, 9, 9)


def test_other_channels_than_three() -> None:
    assert count(nn.Sequential(nn.Conv2d(64, 2, 1, bias=False)), 4, 4, channels=64).mult_adds == 16 * 128


def test_a_model_of_the_zoo() -> None:
    spec = zoo.get("mobilenet_v2")
    assert count_model(spec).params == 3_504_872
    assert count_model(spec, {"width": 0.35}, 96, 10).params < 500_000
    for options, size, says in (({"width": 9}, None, "Option `width` is 9"), ({}, 31, "Input size is 31")):
        with pytest.raises(BadInput, match=says):
            count_model(spec, options, size)


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
