"""ResNet and plain networks against the paper, and against torchvision's on the same weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from torch import nn

from pipeline import zoo
from pipeline.zoo.complexity.count import count, count_model
from pipeline.zoo.spec import Value
from pipeline.zoo.units.residual import Bottleneck, ResidualUnit, ZeroPadShortcut


def meta(name: str, classes: int = 1000, **options: Value) -> nn.Module:
    with torch.device("meta"):
        return zoo.get(name).build(classes, **options)


@pytest.mark.parametrize(
    ("name", "params", "on_1x1", "on_3x3"),
    [
        ("resnet18", 11_689_512, 1_814, None),
        ("resnet34", 21_797_672, 3_664, None),
        ("resnet50", 25_557_032, 3_858, 4_089),
        ("resnet101", 44_549_160, 7_570, 7_801),
        ("resnet152", 60_192_808, 11_282, 11_514),
    ],
)
def test_exact_counts(name: str, params: int, on_1x1: int, on_3x3: int | None) -> None:
    cost = count_model(zoo.get(name))
    assert (cost.params, round(cost.mult_adds / 1e6)) == (params, on_1x1)
    if on_3x3 is not None:
        cost = count_model(zoo.get(name), {"stride_on": "3x3"})
        assert (cost.params, round(cost.mult_adds / 1e6)) == (params, on_3x3)


@pytest.mark.parametrize("depth", [18, 50])
def test_with_squeeze_and_excitation_it_is_senets(depth: int) -> None:
    ours, theirs = (
        meta(name, **more) for name, more in ((f"resnet{depth}", {"reduction": 16}), (f"se_resnet{depth}", {}))
    )
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in theirs.state_dict().items()}


@pytest.mark.parametrize("depth", [101, 152])
def test_the_deeper_ones_have_timms_parameters_with_it(depth: int, timm_create: Callable[..., nn.Module]) -> None:
    with torch.device("meta"):
        timm = timm_create(f"seresnet{depth}")
    assert count_model(zoo.get(f"resnet{depth}"), {"reduction": 16}).params == sum(p.numel() for p in timm.parameters())


@pytest.mark.parametrize("depth", [18, 34])
def test_a_plain_network_is_a_residual_one_without_its_projections(depth: int) -> None:
    plain, residual = meta(f"plain{depth}"), meta(f"resnet{depth}")
    kept = {key: tensor.shape for key, tensor in residual.state_dict().items() if ".downsample." not in key}
    assert {key: tensor.shape for key, tensor in plain.state_dict().items()} == kept
    # Three 1×1 projections (64→128, 128→256, 256→512) and their batch norms.
    projections = 64 * 128 + 128 * 256 + 256 * 512 + 2 * (128 + 256 + 512)
    assert count(residual, 64, 64).params - count(plain, 64, 64).params == projections


@pytest.mark.parametrize("name", ["plain18", "resnet18"])
def test_only_a_residual_network_hands_its_input_on(name: str) -> None:
    """A unit whose branch is zero: nothing is left of the input in a plain network."""
    network = zoo.get(name).build(2, width=0.125).eval()
    unit = next(module for module in network.modules() if isinstance(module, ResidualUnit))
    x = torch.rand(1, 8, 5, 5)
    with torch.no_grad():
        unit.bn2.weight.zero_()  # type: ignore[union-attr, operator]
        assert torch.equal(unit(x), torch.zeros_like(x) if name == "plain18" else x)


@pytest.mark.parametrize(("depth", "units"), [(18, 8), (34, 16), (50, 16), (101, 33), (152, 50)])
def test_the_name_counts_the_weighted_layers(depth: int, units: int) -> None:
    network = meta(f"resnet{depth}", shortcut="A")
    assert sum(isinstance(module, ResidualUnit) for module in network.modules()) == units
    assert sum(isinstance(module, nn.Conv2d | nn.Linear) for module in network.modules()) == depth


@pytest.mark.parametrize("units", [1, 3, 18])
def test_the_network_of_section_4_2(units: int) -> None:
    """6n + 2 weighted layers; 2n + 1, 2n and 2n convolutions at 32×32, 16×16 and 8×8 with 16, 32 and 64 channels."""
    cost = count(meta("resnet_cifar", 10, units=units), 32, 32)
    shapes = Counter(layer.output for layer in cost.layers if layer.kind == "3×3 conv")
    assert shapes == {(16, 32, 32): 2 * units + 1, (32, 16, 16): 2 * units, (64, 8, 8): 2 * units}
    assert sum(isinstance(module, nn.Conv2d | nn.Linear) for module in meta("resnet_cifar", units=units).modules()) == (
        6 * units + 2
    )


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"])
def test_a_published_state_dict_fits_key_by_key(name: str, torchvision_models: ModuleType) -> None:
    with torch.device("meta"):
        theirs = getattr(torchvision_models, name)()
    ours = meta(name).state_dict()
    assert {key: tensor.shape for key, tensor in ours.items()} == {k: t.shape for k, t in theirs.state_dict().items()}


@pytest.mark.parametrize(("name", "options"), [("resnet18", {}), ("resnet50", {"stride_on": "3x3"})])
@pytest.mark.parametrize("shape", [(2, 3, 64, 64), (1, 3, 33, 97)])
def test_equal_logits_on_equal_weights(
    name: str,
    options: dict[str, Value],
    shape: tuple[int, ...],
    torchvision_models: ModuleType,
    enliven: Callable[[nn.Module], nn.Module],
) -> None:
    torch.manual_seed(0)
    theirs = enliven(getattr(torchvision_models, name)(num_classes=10))
    ours = zoo.get(name).build(10, **options).eval()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(shape)
    with torch.no_grad():
        expected, logits = theirs(x), ours(x)
    assert expected.std() > 0.01
    assert (logits - expected).norm() <= 1e-5 * expected.norm()


def test_the_stride_moves_within_a_bottleneck() -> None:
    for place, strides in (("1x1", ((2, 2), (1, 1))), ("3x3", ((1, 1), (2, 2)))):
        network = meta("resnet50", stride_on=place)
        first = [module for module in network.modules() if isinstance(module, Bottleneck)][3]
        assert (first.conv1.stride, first.conv2.stride) == strides


def test_shortcuts_of_section_3_3() -> None:
    def projections(**options: Value) -> int:
        return sum(".downsample.0." in key for key in meta("resnet34", **options).state_dict())

    assert (projections(shortcut="A"), projections(), projections(shortcut="C")) == (0, 3, 16)
    assert count(meta("resnet34", shortcut="A"), 64, 64).params == count(meta("plain34"), 64, 64).params


@pytest.mark.parametrize(("inputs", "outputs", "stride", "side"), [(3, 8, 2, 7), (3, 8, 2, 8), (4, 16, 1, 5)])
def test_the_shortcut_without_weights(inputs: int, outputs: int, stride: int, side: int) -> None:
    shortcut, x = ZeroPadShortcut(inputs, outputs, stride), torch.randn(2, inputs, side, side)
    expected = torch.zeros(2, outputs, -(-side // stride), -(-side // stride))
    expected[:, :inputs] = x[:, :, ::stride, ::stride]
    assert torch.equal(shortcut(x), expected)
    assert not shortcut.state_dict()


def test_width_scales_every_layer() -> None:
    narrow = {key: tensor.shape for key, tensor in meta("resnet50", 10, width=0.25).state_dict().items()}
    for key, tensor in meta("resnet50", 10).state_dict().items():
        if tensor.dim() == 4 and key != "conv1.weight":
            assert (narrow[key][0], narrow[key][1]) == (tensor.shape[0] // 4, tensor.shape[1] // 4), key
    assert narrow["conv1.weight"] == (16, 3, 7, 7)
    assert narrow["fc.weight"] == (10, 512)
