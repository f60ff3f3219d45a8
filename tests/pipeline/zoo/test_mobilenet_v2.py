"""MobileNetV2 against its paper and against the state dicts that the world has of it."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from pipeline import zoo
from pipeline.zoo.complexity.count import count
from pipeline.zoo.mobilenet_v2 import STAGES
from pipeline.zoo.units.blocks import ConvBatchNorm, make_divisible
from pipeline.zoo.units.inverted_residual import InvertedResidual
from pipeline.zoo.units.squeeze_excitation import SqueezeExcitation

SPEC = zoo.get("mobilenet_v2")
BATCH_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def meta(classes: int, **options: float) -> nn.Module:
    with torch.device("meta"):
        return SPEC.build(classes, **options)


@pytest.mark.parametrize(
    ("classes", "width", "size", "params", "millions"),
    [
        (1000, 1.0, 224, 3_504_872, 300.8),  # the paper's table 4: 3.4 M and 300 M
        (10, 1.0, 96, 2_236_682, None),
        (1000, 0.35, 96, 1_677_128, 11.9),
        (1000, 1.4, 224, None, 582.2),  # 585 M in table 4
    ],
)
def test_published_costs(classes: int, width: float, size: int, params: int | None, millions: float | None) -> None:
    cost = count(meta(classes, width=width), size, size)
    if params is not None:
        assert cost.params == params
        assert cost.size_mb == round(params * 4 / 1e6, 3)
    if millions is not None:
        assert round(cost.mult_adds / 1e6, 1) == millions


def test_ten_classes_are_8_947_megabytes() -> None:
    assert count(meta(10), 96, 96).size_mb == 8.947


def published_shapes(classes: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Keys and shapes of the published state dict (features.N.conv…, classifier.1), written from table 2 alone."""

    def batch_norm(path: str, channels: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        return ((f"{path}.{name}", () if name.startswith("num") else (channels,)) for name in BATCH_NORM)

    yield "features.0.0.weight", (32, 3, 3, 3)
    yield from batch_norm("features.0.1", 32)
    index, inputs = 1, 32
    table = [(1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3), (6, 320, 1)]
    for expansion, outputs, repeats in table:
        for _ in range(repeats):
            path, hidden, step = f"features.{index}.conv", inputs * expansion, 0
            if expansion != 1:
                yield f"{path}.0.0.weight", (hidden, inputs, 1, 1)
                yield from batch_norm(f"{path}.0.1", hidden)
                step = 1
            yield f"{path}.{step}.0.weight", (hidden, 1, 3, 3)
            yield from batch_norm(f"{path}.{step}.1", hidden)
            yield f"{path}.{step + 1}.weight", (outputs, hidden, 1, 1)
            yield from batch_norm(f"{path}.{step + 2}", outputs)
            index, inputs = index + 1, outputs
    yield f"features.{index}.0.weight", (1280, 320, 1, 1)
    yield from batch_norm(f"features.{index}.1", 1280)
    yield "classifier.1.weight", (classes, 1280)
    yield "classifier.1.bias", (classes,)


def test_a_published_state_dict_fits_key_by_key() -> None:
    state = meta(1000).state_dict()
    assert [(name, tuple(tensor.shape)) for name, tensor in state.items()] == list(published_shapes(1000))
    assert len(state) == 314
    assert (next(iter(state)), list(state)[-1]) == ("features.0.0.weight", "classifier.1.bias")


def test_strides_expansions_and_shortcuts_of_table_2() -> None:
    units = [module for module in meta(10).modules() if isinstance(module, InvertedResidual)]
    strides = [1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1]
    outputs = [c for c, n, _ in STAGES for _ in range(n)]
    depthwise = [next(m for m in unit.modules() if isinstance(m, nn.Conv2d) and m.groups > 1) for unit in units]
    assert [layer.stride for layer in depthwise] == [(s, s) for s in strides]
    same = [before == after for before, after in zip([32, *outputs], outputs, strict=False)]
    assert [unit.has_shortcut for unit in units] == [s == 1 and e for s, e in zip(strides, same, strict=True)]
    assert sum(unit.has_shortcut for unit in units) == 10


def test_a_unit_adds_its_input_only_where_it_has_a_shortcut() -> None:
    x = torch.randn(1, 8, 6, 6)
    for outputs, stride, has in ((8, 1, True), (8, 2, False), (16, 1, False)):
        unit = InvertedResidual(8, outputs, stride, 6).eval()
        with torch.no_grad():
            assert torch.equal(unit(x), unit.conv(x) + x if has else unit.conv(x))


def test_the_projection_is_linear() -> None:
    """§3.2: no activation after the last 1×1 convolution, so negative values leave a unit."""
    torch.manual_seed(0)
    with torch.no_grad():
        assert InvertedResidual(8, 16, 1, 6).eval()(torch.randn(4, 8, 6, 6)).min() < 0


def test_squeeze_and_excitation_follows_the_depthwise_convolution() -> None:
    """What it adds is 2c²/r weights and c + c/r biases in every unit of c channels inside; without it nothing moves."""
    inside = [32, 96, *[144] * 2, *[192] * 3, *[384] * 4, *[576] * 3, *[960] * 3]
    added = sum(2 * c * (c // 8) + c + c // 8 for c in inside)
    assert count(meta(1000, reduction=8), 64, 64).params == 3_504_872 + added
    assert meta(10, reduction=0).state_dict().keys() == meta(10).state_dict().keys()
    kinds = [type(module) for module in meta(10, reduction=8).get_submodule("features.2.conv").children()]
    assert kinds == [ConvBatchNorm, ConvBatchNorm, SqueezeExcitation, nn.Conv2d, nn.BatchNorm2d]


def test_the_expansion_factor_widens_every_stage_but_the_first() -> None:
    state = meta(10, expansion=4).state_dict()
    assert state["features.1.conv.0.0.weight"].shape[0] == 32
    assert state["features.2.conv.0.0.weight"].shape == (4 * 16, 16, 1, 1)
    assert state["features.17.conv.0.0.weight"].shape == (4 * 160, 160, 1, 1)


def test_dropout_is_before_the_classifier() -> None:
    assert [m.p for m in meta(10).modules() if isinstance(m, nn.Dropout)] == [0.2]
    assert meta(10, dropout=0.5).get_submodule("classifier.0").p == 0.5


def test_no_width_below_one_shrinks_the_last_layer() -> None:
    for width, last in ((0.1, 1280), (0.35, 1280), (1.0, 1280), (1.4, 1792), (4.0, 5120)):
        assert meta(10, width=width).state_dict()["features.18.0.weight"].shape[0] == last


@pytest.mark.parametrize(
    ("channels", "rounded"),
    [(32, 32), (11.2, 16), (8.4, 8), (12, 16), (3.2, 8), (33.6, 32), (44.8, 48), (22.4, 24), (11, 16)],
)
def test_channels_are_multiples_of_8_and_lose_at_most_a_tenth(channels: float, rounded: int) -> None:
    """33.6 → 32 is the published 0.35 · 96; 11.2 would be 8 by rounding down and loses too much."""
    assert make_divisible(channels) == rounded
    assert rounded % 8 == 0
    assert rounded >= 0.9 * channels
