"""SENet against the paper, and against timm's two spellings of it on the same weights."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from pipeline import zoo
from pipeline.zoo.complexity.count import count_model
from pipeline.zoo.spec import Value

LEGACY = (("layer0.", ""), (".se_module.", ".se."), ("last_linear.", "fc."))
"""How timm's ``legacy`` networks name what torchvision and its newer ones name otherwise."""

NEWER: dict[str, Value] = {"stride_on": "3x3"}
OF_CAFFE: dict[str, Value] = {"stem_pool": "ceil"}
SPELLINGS = [
    ("seresnet50", "se_resnet50", NEWER),
    ("seresnext50_32x4d", "se_resnext50_32x4d", NEWER),
    ("legacy_seresnet18", "se_resnet18", {**OF_CAFFE, "rectified": True}),
    ("legacy_seresnet50", "se_resnet50", OF_CAFFE),
    ("legacy_seresnext50_32x4d", "se_resnext50_32x4d", OF_CAFFE),
]


@pytest.mark.parametrize(
    ("name", "params", "millions"),
    [
        ("se_resnet18", 11_778_592, 1_814.2),
        ("se_resnet50", 28_088_024, 3_860.5),
        ("se_resnext50_32x4d", 27_559_896, 4_233.0),
    ],
)
def test_exact_counts(name: str, params: int, millions: float) -> None:
    cost = count_model(zoo.get(name))
    assert (cost.params, round(cost.mult_adds / 1e6, 1)) == (params, millions)


@pytest.mark.parametrize(("reduction", "published"), [(2, 45.7), (4, 35.7), (8, 30.7), (16, 28.1), (32, 26.9)])
def test_reduction_ratios_of_table_10(reduction: int, published: float) -> None:
    """Every figure there is the count rounded up to a tenth of a million."""
    millions = count_model(zoo.get("se_resnet50"), {"reduction": reduction}).params / 1e6
    assert published - 0.1 < millions <= published


def test_what_the_unit_adds_is_equation_5_and_the_biases() -> None:
    channels = [256] * 3 + [512] * 4 + [1024] * 6 + [2048] * 3
    for reduction in (2, 16):
        added = count_model(zoo.get("se_resnet50"), {"reduction": reduction}).params - 25_557_032
        assert added == sum(2 * c * c // reduction + c + c // reduction for c in channels)


@pytest.mark.parametrize(("theirs_name", "name", "options"), SPELLINGS)
def test_equal_logits_on_equal_weights(
    theirs_name: str,
    name: str,
    options: dict[str, Value],
    timm_create: Callable[..., Any],
    enliven: Callable[[nn.Module], nn.Module],
) -> None:
    torch.manual_seed(0)
    theirs = enliven(timm_create(theirs_name, num_classes=10))
    ours = zoo.get(name).build(10, **options).eval()
    ours.load_state_dict({_renamed(key): tensor for key, tensor in theirs.state_dict().items()})
    for shape in ((1, 3, 64, 64), (1, 3, 33, 97)):
        x = torch.randn(shape)
        with torch.no_grad():
            expected, logits = theirs(x), ours(x)
        assert expected.std() > 0.01
        assert (logits - expected).norm() <= 1e-5 * expected.norm()


def _renamed(key: str) -> str:
    for theirs, ours in LEGACY:
        key = re.sub(rf"(^|(?<=\d)){re.escape(theirs)}", ours, key)
    return key


@pytest.mark.parametrize(("theirs_name", "name"), [(theirs, ours) for theirs, ours, _ in SPELLINGS])
def test_parameters_are_as_many_as_in_timm(theirs_name: str, name: str, timm_create: Callable[..., Any]) -> None:
    with torch.device("meta"):
        theirs = timm_create(theirs_name)
    assert sum(p.numel() for p in theirs.parameters()) == count_model(zoo.get(name)).params


def test_one_group_of_64_channels_is_se_resnet50() -> None:
    """ResNeXt's template 1×64d is ResNet's bottleneck (Xie et al., table 3)."""
    options: dict[str, Value] = {"cardinality": 1, "bottleneck_width": 64, "stride_on": "1x1"}
    aggregated = count_model(zoo.get("se_resnext50_32x4d"), options)
    assert (aggregated.params, aggregated.mult_adds) == (28_088_024, count_model(zoo.get("se_resnet50")).mult_adds)


@pytest.mark.parametrize(("cardinality", "width", "millions"), [(2, 40, 25.0), (4, 24, 25.0), (8, 14, 25.0)])
def test_templates_of_resnext_cost_about_the_same(cardinality: int, width: int, millions: float) -> None:
    """Xie et al., table 3: all of them have about 25 M parameters, to which squeeze and excitation adds 2.53 M."""
    options: dict[str, Value] = {"cardinality": cardinality, "bottleneck_width": width}
    params = count_model(zoo.get("se_resnext50_32x4d"), options).params - 2_530_992
    assert abs(params / 1e6 - millions) < 1


def test_the_narrowest_network_squeezes_to_one_channel() -> None:
    with torch.device("meta"):
        network = zoo.get("se_resnet18").build(2, width=0.125, reduction=64)
    assert network.state_dict()["layer1.0.se.fc1.weight"].shape == (1, 8, 1, 1)


@pytest.mark.parametrize(("text", "name"), [("seresnet18", "se_resnet18"), ("seresnext50_32x4d", "se_resnext50_32x4d")])
def test_other_spellings(text: str, name: str) -> None:
    assert zoo.get(text) is zoo.get(name)
