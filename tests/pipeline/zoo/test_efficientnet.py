"""EfficientNet against torchvision's: the same state dicts, the same logits, the same drop probabilities."""

from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from pipeline import zoo
from pipeline.zoo.complexity.count import count
from pipeline.zoo.units.mbconv import MBConv
from pipeline.zoo.units.squeeze_excitation import SqueezeExcitation

MEMBERS = range(8)
PARAMS = (5_288_548, 7_794_184, 9_109_994, 12_233_232, 19_341_616, 30_389_784, 43_040_704, 66_347_960)
MILLIONS = (386, 687, 994, 1_827, 4_394, 10_266, 19_068, 37_746)
INPUTS = (224, 240, 260, 300, 380, 456, 528, 600)


def meta(member: int, classes: int = 1000, **options: Any) -> nn.Module:
    with torch.device("meta"):
        return zoo.get(f"efficientnet_b{member}").build(classes, **options)


@pytest.mark.parametrize("member", MEMBERS)
def test_published_costs(member: int) -> None:
    size = zoo.get(f"efficientnet_b{member}").input_size
    cost = count(meta(member), size, size)
    assert (size, cost.params, round(cost.mult_adds / 1e6)) == (INPUTS[member], PARAMS[member], MILLIONS[member])


def test_ten_classes_are_16_081_megabytes() -> None:
    cost = count(meta(0, 10), 224, 224)
    assert (cost.params, cost.size_mb) == (4_020_358, 16.081)


@pytest.mark.parametrize("member", MEMBERS)
def test_torchvision_has_the_same_state_dict_and_settings(member: int, torchvision_models: ModuleType) -> None:
    with torch.device("meta"):
        theirs = getattr(torchvision_models, f"efficientnet_b{member}")()
    ours = meta(member)
    shapes = [{key: tuple(tensor.shape) for key, tensor in network.state_dict().items()} for network in (ours, theirs)]
    assert shapes[0] == shapes[1]
    norms = [[m for m in network.modules() if isinstance(m, nn.BatchNorm2d)] for network in (ours, theirs)]
    assert [(m.eps, m.momentum) for m in norms[0]] == [(m.eps, m.momentum) for m in norms[1]]
    assert ours.get_submodule("classifier.0").p == theirs.classifier[0].p
    dropped = [m for m in theirs.modules() if type(m).__name__ == "MBConv"]
    units = [m for m in ours.modules() if isinstance(m, MBConv)]
    assert [m.has_shortcut for m in units] == [m.use_res_connect for m in dropped]
    assert [m.stochastic_depth.probability for m in units if m.has_shortcut] == pytest.approx(
        [m.stochastic_depth.p for m in dropped if m.use_res_connect]
    )


def test_torchvision_computes_the_same_logits(torchvision_models: ModuleType) -> None:
    torch.manual_seed(0)
    theirs = torchvision_models.efficientnet_b0().train()
    with torch.no_grad():
        theirs(torch.randn(8, 3, 64, 64))  # statistics that are not 0 and 1
    ours = zoo.get("efficientnet_b0").build()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = torch.randn(2, 3, 96, 65)
    with torch.no_grad():
        expected = theirs.eval()(x)
        assert expected.std() > 1e-3
        torch.testing.assert_close(ours.eval()(x), expected, rtol=1e-4, atol=1e-5)


def test_squeeze_is_a_quarter_of_the_units_input() -> None:
    """B0: the first two stages' units, 32 → 8 and 16 → 4, whatever the expansion."""
    squeezed = [m.fc1.out_channels for m in meta(0).modules() if isinstance(m, SqueezeExcitation)]
    assert squeezed[:3] == [8, 4, 6]
    assert len(squeezed) == 16
    halved = [m.fc1.out_channels for m in meta(0, se_ratio=0.5).modules() if isinstance(m, SqueezeExcitation)]
    assert halved[:3] == [16, 8, 12]


def test_the_expansion_factor_widens_every_stage_but_the_first() -> None:
    state = meta(0, expansion=4).state_dict()
    assert state["features.1.0.block.0.0.weight"].shape == (32, 1, 3, 3)
    assert state["features.2.0.block.0.0.weight"].shape == (4 * 16, 16, 1, 1)
    assert state["features.7.0.block.0.0.weight"].shape == (4 * 192, 192, 1, 1)


def test_options_override_the_table() -> None:
    """B1 is B0 with a depth of 1.1; B0 is B1 with a depth of 1."""
    assert [m.shape for m in meta(0, depth=1.1).parameters()] == [m.shape for m in meta(1).parameters()]
    assert [m.shape for m in meta(1, depth=1.0).parameters()] == [m.shape for m in meta(0).parameters()]
    assert {m.eps for m in meta(0, eps=1e-3).modules() if isinstance(m, nn.BatchNorm2d)} == {1e-3}
    assert {m.momentum for m in meta(7, batch_norm_momentum=0.5).modules() if isinstance(m, nn.BatchNorm2d)} == {0.5}
    assert meta(0, dropout=0.7).get_submodule("classifier.0").p == 0.7
    rates = [m.stochastic_depth.probability for m in meta(0, stochastic_depth=0.0).modules() if isinstance(m, MBConv)]
    assert rates == [0.0] * 16


def test_dropping_is_for_training_only() -> None:
    torch.manual_seed(0)
    network = zoo.get("efficientnet_b0").build(5, dropout=0.0, stochastic_depth=0.9)
    x = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        network(x)
        assert not torch.equal(network(x), network(x))
        network.eval()
        assert torch.equal(network(x), network(x))
