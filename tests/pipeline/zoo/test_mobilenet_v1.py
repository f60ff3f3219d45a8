"""MobileNet V1 against its paper: exact counts, where the weights and the work are, and table 1's shapes."""

import pytest
import torch
from torch import nn

from pipeline import zoo
from pipeline.zoo.complexity.count import count

SPEC = zoo.get("mobilenet_v1")

# Table 1 as printed: kind, stride, channels in, channels out, input side. The last depthwise stride is a misprint.
TABLE_1 = [
    ("conv", 2, 3, 32, 224),
    *[line for inputs, outputs, stride, side in (
        (32, 64, 1, 112), (64, 128, 2, 112), (128, 128, 1, 56), (128, 256, 2, 56), (256, 256, 1, 28),
        (256, 512, 2, 28), *[(512, 512, 1, 14)] * 5, (512, 1024, 2, 14), (1024, 1024, 1, 7),
    ) for line in (("dw", stride, inputs, inputs, side), ("1x1", 1, inputs, outputs, side // stride))],
]  # fmt: skip


def meta(classes: int = 1000, **options: float) -> nn.Module:
    with torch.device("meta"):
        return SPEC.build(classes, **options)


@pytest.mark.parametrize(
    ("width", "size", "params", "millions"),
    [
        (1.0, 224, 4_231_976, 568.7),
        (0.75, 224, 2_585_560, 325.4),
        (0.5, 224, 1_331_592, 149.5),
        (0.25, 224, 470_072, 41.0),
        (0.5, 160, 1_331_592, 76.5),
        (0.25, 128, 470_072, 13.6),
    ],
)
def test_published_costs(width: float, size: int, params: int, millions: float) -> None:
    cost = count(meta(width=width), size, size)
    assert cost.params == params
    assert round(cost.mult_adds / 1e6, 1) == millions


def test_the_layers_of_table_1() -> None:
    layers = [layer for layer in meta().modules() if isinstance(layer, nn.Conv2d)]
    assert len(layers) == len(TABLE_1) == 27
    for layer, (kind, stride, inputs, outputs, _) in zip(layers, TABLE_1, strict=True):
        assert (layer.in_channels, layer.out_channels, layer.stride[0]) == (inputs, outputs, stride)
        assert layer.kernel_size == ((1, 1) if kind == "1x1" else (3, 3))
        assert layer.groups == (inputs if kind == "dw" else 1)


def test_where_the_weights_and_the_work_are() -> None:
    """Table 2, by arithmetic on table 1 and by hooks on the modules: both give the published shares."""
    work = {"conv": 0, "dw": 0, "1x1": 0, "fc": 1024 * 1000}
    weights = dict(work)
    for kind, stride, inputs, outputs, side in TABLE_1:
        size = (1 if kind == "1x1" else 9) * (1 if kind == "dw" else inputs) * outputs
        weights[kind] += size
        work[kind] += size * (side // stride) ** 2
    shares = {kind: round(100 * work[kind] / sum(work.values()), 2) for kind in work}
    assert (shares["1x1"], shares["dw"], shares["conv"], shares["fc"]) == (94.86, 3.06, 1.91, 0.18)
    assert round(100 * weights["1x1"] / sum(weights.values()), 2) == 74.59
    assert round(100 * weights["fc"] / sum(weights.values()), 2) == 24.33

    counted_work, counted_weights = dict.fromkeys(work, 0), dict.fromkeys(work, 0)

    def hook(module: nn.Module, _inputs: object, output: torch.Tensor) -> None:
        assert isinstance(module, nn.Conv2d | nn.Linear)
        if isinstance(module, nn.Linear):
            kind = "fc"
        else:
            kind = "1x1" if module.kernel_size == (1, 1) else "conv" if module.groups == 1 else "dw"
        counted_weights[kind] += module.weight.numel()
        counted_work[kind] += output.numel() * module.weight[0].numel()

    network = meta().eval()
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(hook)
    network(torch.empty(1, 3, 224, 224, device="meta"))
    assert (counted_work, counted_weights) == (work, weights)


def test_a_quarter_has_two_hundred_thousand_parameters_without_its_classifier() -> None:
    network = meta(width=0.25)
    assert sum(p.numel() for p in network.get_submodule("features").parameters()) == 213_072


def test_the_resolution_multiplier_leaves_the_parameters() -> None:
    """ρ is the input size: cost falls with its square, parameters stay (§3.4)."""
    whole, small = count(meta(), 224, 224), count(meta(), 160, 160)
    assert whole.params == small.params
    fc = 1024 * 1000
    assert (small.mult_adds - fc) / (whole.mult_adds - fc) == pytest.approx((160 / 224) ** 2)


def test_no_width_loses_a_layer() -> None:
    for width in (0.1, 0.37, 1.3, 4.0):
        channels = [layer.out_channels for layer in meta(width=width).modules() if isinstance(layer, nn.Conv2d)]
        assert min(channels) >= 8
        assert all(channel % 8 == 0 for channel in channels)
        for channel, (*_, outputs, _side) in zip(channels, TABLE_1, strict=True):
            assert channel >= 0.9 * width * outputs
