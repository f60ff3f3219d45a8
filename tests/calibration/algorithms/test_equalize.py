"""Equalisation: what it leaves alone, what it changes, and by how much, against sums done by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.fx import GraphModule

from calibration.algorithms.equalize import Channels, equalize
from calibration.algorithms.repairs import Repairs
from calibration.quantize import quantize
from calibration.ranges import Ranges
from calibration.recipe import Recipe
from calibration.simulate import Simulator
from pipeline.zoo.units.blocks import FeatureClassifier

Capture = Callable[[nn.Module], GraphModule]
Edit = Callable[[GraphModule, Repairs], GraphModule]


def logits(graph: GraphModule, pictures: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        answers: torch.Tensor = graph(pictures)
    return answers


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max() / one.abs().max())


class Chain(nn.Module):
    """Whatever stands between two layers, and a mean to end with."""

    def __init__(self, *units: nn.Module) -> None:
        super().__init__()
        self.units = nn.Sequential(*units)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.units(x)
        return y.mean((2, 3), keepdim=True).flatten(1) if y.dim() == 4 else y


def unbalanced(network: nn.Module, one: nn.Module, other: nn.Module, seed: int = 0, factor: float = 10.0) -> nn.Module:
    """The same function, where a ReLU or nothing is between the two, with channels scaled apart at random."""
    chance = torch.Generator().manual_seed(seed)
    a, b = one.weight.data, other.weight.data
    scale = torch.exp(torch.randn(len(a), generator=chance).clamp(-2, 2) * math.log(factor) / 2)
    a *= scale.view(-1, *[1] * (a.dim() - 1))
    one.bias.data *= scale
    if b.shape[1] == 1:
        b /= scale.view(-1, 1, 1, 1)
    else:
        b /= scale.view(1, -1, *[1] * (b.dim() - 2))
    return network


def test_a_network_that_was_put_out_of_balance_is_put_back(
    captured: Capture, ranges_of: Callable[..., Ranges], edited: Edit, pictures: torch.Tensor
) -> None:
    torch.manual_seed(0)
    network = Chain(
        nn.Conv2d(3, 16, 3, 2), nn.ReLU(), nn.Conv2d(16, 16, 3, 1, 1, groups=16), nn.ReLU(), nn.Conv2d(16, 8, 1)
    )
    unbalanced(network, network.units[0], network.units[2])
    unbalanced(network, network.units[2], network.units[4], seed=1)
    graph = captured(network)
    batches = pictures.split(8)
    balanced = edited(graph, equalize(graph, batches))
    expected = logits(graph, pictures)
    assert difference(expected, logits(balanced, pictures)) < 1e-5
    noise = {}
    for name, candidate in (("as it was", graph), ("balanced", balanced)):
        ranges = ranges_of(candidate, batches, Recipe(weights="per-tensor"))
        answered = Simulator(quantize(candidate, ranges, fold_weights=True)[0])(pictures)
        noise[name] = float((answered - expected).square().mean())
    assert noise["balanced"] < noise["as it was"] / 5


def test_two_equal_channels_end_up_equal(captured: Capture, pictures: torch.Tensor) -> None:
    """2×2 weights: channel 1 is channel 0 scaled up by 8 before and down by 8 after; whatever is best is equal."""
    network = Chain(nn.Conv2d(3, 2, 1), nn.ReLU(), nn.Conv2d(2, 2, 1))
    one, other = network.units[0], network.units[2]
    with torch.no_grad():
        one.weight.copy_(torch.tensor([[0.5, 0.25, 0.25], [4.0, 2.0, 2.0]]).view(2, 3, 1, 1))
        one.bias.copy_(torch.tensor([0.5, 4.0]))
        other.weight.copy_(torch.tensor([[1.0, 0.125], [-2.0, -0.25]]).view(2, 2, 1, 1))
    found = equalize(captured(network), [pictures]).tensors
    assert found.keys() == {"units.0.weight", "units.0.bias", "units.2.weight"}
    rows, columns = found["units.0.weight"].flatten(1), found["units.2.weight"].flatten(1)
    assert torch.allclose(rows[0], rows[1], rtol=1e-5)
    assert torch.allclose(columns[:, 0], columns[:, 1], rtol=1e-5)
    scales = torch.tensor([0.5, 4.0]) / rows[:, 0]
    assert torch.allclose(found["units.0.bias"], torch.tensor([0.5, 4.0]) / scales)
    assert torch.allclose(columns, other.weight.detach().flatten(1) * scales)


def some_channels(**changes: Any) -> Channels:
    values = {
        "before": [1.0, 0.25], "after": [0.5, 4.0], "reach": [3.0, 1.0], "energy": [2.0, 0.25], "passing": [1.0, 0.5],
        "arriving": [5.0, 5.0], "gain": [0.25, 16.0],
    }  # fmt: skip
    tensors = {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}
    return replace(
        Channels(**tensors, free=torch.tensor([True, True]), readers=2, limit=3.0),
        **changes,
    )


def test_the_noise_of_two_channels_by_hand() -> None:
    """Scales 2 and 1: steps 0.5 / 127 before, 1.5 / 255 between, 4 / 127 after."""
    before, between, after = 0.5 / 127, 1.5 / 255, 4 / 127
    made = before**2 * 5 + between**2
    expected = made * (1 * 0.25 * 4 + 0.5 * 16 * 1) + after**2 * 2 * (2 / 4 + 0.25 / 1)
    noise = some_channels().noise(torch.tensor([2.0, 1.0], dtype=torch.float64))
    assert float(noise) == pytest.approx(expected, rel=1e-12)


def test_the_best_scales_are_as_good_as_those_of_a_fine_grid() -> None:
    channels = some_channels()
    axis = torch.logspace(-3, 3, 601, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    allowed = grid[(channels.reach / grid <= channels.limit * (1 + 1e-9)).all(1)]
    assert float(channels.noise(channels.best_scales())) <= 1.02 * float(channels.noise(allowed).min())
    assert float(channels.noise(channels.best_scales())) < 0.9 * float(channels.noise(torch.ones(2).double()))
    assert (channels.reach / channels.best_scales() <= channels.limit * (1 + 1e-9)).all()


def test_a_channel_that_is_not_free_keeps_its_scale() -> None:
    scales = some_channels(free=torch.tensor([False, True])).best_scales()
    assert float(scales[0]) == 1
    assert float(scales[1]) != 1
    assert some_channels(free=torch.tensor([False, False])).best_scales().tolist() == [1, 1]


def test_a_clamp_acts_where_it_did(captured: Capture, edited: Edit, pictures: torch.Tensor) -> None:
    """ReLU6: a channel that reaches 6 is not scaled, no other comes to reach it."""
    torch.manual_seed(0)
    network = Chain(nn.Conv2d(3, 6, 3), nn.ReLU6(), nn.Conv2d(6, 4, 1))
    one = network.units[0]
    one.weight.data *= torch.tensor([20, 1, 0.3, 0.1, 0.03, 3]).view(6, 1, 1, 1)
    one.bias.data.fill_(0.1)
    graph = captured(network)
    repairs = equalize(graph, pictures.split(8))
    changed = repairs.tensors["units.0.weight"]
    assert torch.equal(changed[0], one.weight.detach()[0])
    assert not torch.equal(changed[4], one.weight.detach()[4])
    assert difference(logits(graph, pictures), logits(edited(graph, repairs), pictures)) < 1e-5
    # A fifth more contrast than calibration saw stays below the clamp too.
    middle = 127.5 + (pictures - 127.5) * 1.2
    assert difference(logits(graph, middle), logits(edited(graph, repairs), middle)) < 1e-5


def test_dead_channels_stay_as_they_are(captured: Capture, edited: Edit, pictures: torch.Tensor) -> None:
    """Without weights before, without weights after, never positive, and as good as without weights."""
    torch.manual_seed(0)
    network = Chain(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 1))
    one, other = network.units[0], network.units[2]
    with torch.no_grad():
        one.weight[0] = 0
        other.weight[:, 1] = 0
        one.bias[2] = -1000
        one.weight[3] *= 1e-12
        one.bias[3] = 0.5
        one.weight[4] *= 10
        one.bias[4] = 0.5
    graph = captured(network)
    repairs = equalize(graph, pictures.split(8))
    for channel in (0, 1, 2):
        assert torch.equal(repairs.tensors["units.0.weight"][channel], one.weight.detach()[channel])
        assert torch.equal(repairs.tensors["units.2.weight"][:, channel], other.weight.detach()[:, channel])
    assert all(torch.isfinite(tensor).all() for tensor in repairs.tensors.values())
    for channel in (3, 5):
        assert not torch.equal(repairs.tensors["units.0.weight"][channel], one.weight.detach()[channel])
    assert float(repairs.tensors["units.0.bias"].abs().max()) <= 1000
    assert difference(logits(graph, pictures), logits(edited(graph, repairs), pictures)) < 1e-5


class Flattened(nn.Module):
    """Several values of each channel become columns of a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 4, 5, stride=9), nn.Linear(4 * 16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(torch.relu(self.conv(x)).flatten(1))


def transparent() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {
        "nothing": Chain(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1)),
        "groups": Chain(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3, groups=2), nn.ReLU6(), nn.Conv2d(6, 4, 1)),
        "maximum": Chain(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 4, 1)),
        "leaky": Chain(nn.Conv2d(3, 8, 3), nn.LeakyReLU(0.1), nn.Conv2d(8, 4, 1)),
        "padding": Chain(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.ZeroPad2d(2), nn.Conv2d(8, 4, 3)),
        "flatten": Flattened(),
        "mean": FeatureClassifier(
            nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU6()), nn.Sequential(nn.Dropout(), nn.Linear(8, 4))
        ),
    }


@pytest.mark.parametrize("name", transparent())
def test_scales_pass_what_lets_them_pass(name: str, captured: Capture, edited: Edit, pictures: torch.Tensor) -> None:
    network = transparent()[name]
    layers = [module for module in network.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    layers[0].weight.data *= torch.logspace(-1, 1, len(layers[0].weight)).view(-1, 1, 1, 1)
    graph = captured(network)
    repairs = equalize(graph, pictures.split(8))
    changed = {name.rsplit(".", 1)[0] for name in repairs.tensors}
    assert changed == {name for name, module in network.named_modules() if module in layers}
    assert difference(logits(graph, pictures), logits(edited(graph, repairs), pictures)) < 1e-5
    path = next(path for path, module in network.named_modules() if module is layers[0])
    assert difference(layers[0].weight.detach(), repairs.tensors[f"{path}.weight"]) > 0.01


class Shortcut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.one(x))
        return (y + self.other(y)).mean((2, 3), keepdim=True).flatten(1)


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.conv(torch.relu(self.conv(x))))).mean((2, 3), keepdim=True).flatten(1)


def opaque() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {
        "one layer": Chain(nn.Conv2d(3, 4, 3), nn.ReLU()),
        "no layer": Chain(nn.ReLU()),
        "two readers": Shortcut(),
        "shared weights": Shared(),
        "another activation": Chain(nn.Conv2d(3, 4, 3), nn.Sigmoid(), nn.Conv2d(4, 2, 1)),
        "two-sided clamp": Chain(nn.Conv2d(3, 4, 3), nn.Hardtanh(), nn.Conv2d(4, 2, 1)),
        "padding with ones": Chain(nn.Conv2d(3, 4, 3), nn.ConstantPad2d(1, 1.0), nn.Conv2d(4, 2, 1)),
    }


@pytest.mark.parametrize("name", opaque())
def test_no_pair_no_change(name: str, captured: Capture, pictures: torch.Tensor) -> None:
    assert equalize(captured(opaque()[name]), pictures.split(8)) == Repairs()


def test_the_same_twice_and_a_whole_network(
    small: nn.Module, captured: Capture, edited: Edit, pictures: torch.Tensor
) -> None:
    graph = captured(small)
    batches: Sequence[torch.Tensor] = pictures.split(8)
    one, other = equalize(graph, batches), equalize(graph, batches)
    assert one.to_bytes() == other.to_bytes()
    # The projection is added to a shortcut: only what stands inside the unit and behind it is scaled.
    assert "features.1.conv.2.bias" not in one.tensors
    assert {"features.1.conv.0.0.bias", "features.1.conv.1.0.bias", "features.2.0.bias"} <= one.tensors.keys()
    assert difference(logits(graph, pictures), logits(edited(graph, one), pictures)) < 1e-5
