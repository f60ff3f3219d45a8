"""SqueezeNet against the paper, and against torchvision's on the same weights."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from torch import nn

from pipeline import zoo
from pipeline.zoo.complexity.count import count_model
from pipeline.zoo.spec import Value
from pipeline.zoo.squeezenet import deep_compressed_bytes
from pipeline.zoo.units.fire import Fire

SPEC = zoo.get("squeezenet_1_0")


def fires(**options: Value) -> list[Fire]:
    with torch.device("meta"):
        return [module for module in SPEC.build(10, **options).modules() if isinstance(module, Fire)]


def filters(fire: Fire) -> tuple[int, int, int]:
    return fire.squeeze.out_channels, fire.expand1x1.out_channels, fire.expand3x3.out_channels


@pytest.mark.parametrize(
    ("name", "params", "millions"), [("squeezenet_1_0", 1_248_424, 818.9), ("squeezenet_1_1", 1_235_496, 349.2)]
)
def test_exact_counts(name: str, params: int, millions: float) -> None:
    cost = count_model(zoo.get(name))
    assert (cost.params, round(cost.mult_adds / 1e6, 1)) == (params, millions)


def test_the_release_of_1_1_says_2_4_times_less_computation() -> None:
    ratio = count_model(SPEC).mult_adds / count_model(zoo.get("squeezenet_1_1")).mult_adds
    assert 2.3 < ratio < 2.45


@pytest.mark.parametrize(("bits", "position_bits", "published"), [(32, None, 4.8), (8, 4, 0.66), (6, None, 0.47)])
def test_sizes_of_table_2(bits: int, position_bits: float | None, published: float) -> None:
    """8 bits: the file that the authors released. 6 bits: no file is known; positions at their entropy give it."""
    with torch.device("meta"):
        network = SPEC.build()
    if bits == 32:
        size = 4 * sum(p.numel() for p in network.parameters()) / 2**20
        assert round(size, 1) == published
    else:
        assert round(deep_compressed_bytes(network, bits, position_bits=position_bits) / 1e6, 2) == published


def test_a_compressed_layer_by_hand() -> None:
    layer = nn.Linear(100, 10)
    # Half of 1,000 weights at 2 + 1 bits (one bit a position is the entropy: kept or not, 2 · ½ · log₂ 2 = 2 a kept
    # weight), 4 codes, 10 biases.
    assert deep_compressed_bytes(layer, 2, 0.5, 1) == round(500 * 3 / 8 + 4 * 4 + 4 * 10)
    assert deep_compressed_bytes(layer, 2, 0.5) == 500 * 4 // 8 + 4 * 4 + 4 * 10


def test_filters_of_table_1() -> None:
    published = [(16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256)]
    assert [filters(fire) for fire in fires()] == [(s, e, e) for s, e in published]


@pytest.mark.parametrize(
    ("options", "published"), [({}, 4.8), ({"squeeze_ratio": 0.5}, 13), ({"squeeze_ratio": 0.75}, 19)]
)
def test_sizes_of_section_5(options: dict[str, Value], published: float) -> None:
    """Printed in MB of 2^20 bytes, more or less: 4.76, 12.99 and 18.47 are counted."""
    size = 4 * count_model(SPEC, options).params / 2**20
    assert size == pytest.approx(published, rel=0.03)


def test_metaparameters_of_section_5_1() -> None:
    options: dict[str, Value] = {"base_expand": 64, "expand_step": 32, "step_every": 3, "share_3x3": 0.25}
    expand = [sum(filters(fire)[1:]) for fire in fires(**options)]
    assert expand == [64, 64, 64, 96, 96, 96, 128, 128]
    assert [filters(fire)[2] for fire in fires(**options)] == [e // 4 for e in expand]
    assert [filters(fire)[0] for fire in fires(**options)] == [e // 8 for e in expand]


@pytest.mark.parametrize("share", [0.01, 0.99])
def test_the_thinnest_module_keeps_a_filter_of_each_kind(share: float) -> None:
    thinnest = filters(fires(base_expand=8, expand_step=0, share_3x3=share, squeeze_ratio=0.01)[0])
    assert thinnest == ((1, 7, 1) if share < 0.5 else (1, 1, 7))


def test_bypasses_of_figure_2() -> None:
    """Simple: around fire 3, 5, 7 and 9. Complex: those, and 1×1 convolutions around the others."""
    simple = [type(fire.bypass) for fire in fires(bypass="simple")]
    assert simple == [type(None), nn.Identity] * 4
    convolutions = [fire.bypass[0] for fire in fires(bypass="complex") if isinstance(fire.bypass, nn.Sequential)]
    shapes = [(layer.in_channels, layer.out_channels) for layer in convolutions]
    assert shapes == [(96, 128), (128, 256), (256, 384), (384, 512)]
    added = sum(inputs * outputs + outputs for inputs, outputs in shapes)
    assert count_model(SPEC, {"bypass": "complex"}).params == 1_248_424 + added


def test_a_bypass_adds_the_input_and_nothing_becomes_negative() -> None:
    torch.manual_seed(0)
    x = torch.rand(2, 16, 5, 5)
    for kind in ("simple", "complex"):
        fire = Fire(16, 4, 8, 8, kind)
        plain = Fire(16, 4, 8, 8)
        plain.load_state_dict(fire.state_dict())
        with torch.no_grad():
            torch.testing.assert_close(fire(x), plain(x) + x)
            assert Fire(16, 4, 8, 16, kind)(x).min() >= 0


@pytest.mark.parametrize("version", ["1_0", "1_1"])
def test_equal_logits_on_equal_weights(version: str, torchvision_models: ModuleType) -> None:
    torch.manual_seed(0)
    theirs = getattr(torchvision_models, f"squeezenet{version}")(num_classes=10).eval()
    for parameter in theirs.parameters():
        if parameter.dim() == 1:
            nn.init.uniform_(parameter, 0, 0.2)
    ours = zoo.get(f"squeezenet_{version}").build(10).eval()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    for shape in ((2, 3, 64, 64), (1, 3, 33, 97), (1, 3, 227, 224), (1, 3, 32, 35)):
        x = torch.randn(shape)
        with torch.no_grad():
            expected, logits = theirs(x), ours(x)
        assert expected.std() > 0.001
        assert (logits - expected).norm() <= 1e-5 * expected.norm()
