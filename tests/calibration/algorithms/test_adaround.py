"""Adaptive rounding: tiny layers against every possible rounding, gradients against autograd, whole networks."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from recorder import Recorder
from torch import nn
from torch.fx import GraphModule
from torch.nn import functional

from calibration.algorithms import adaround
from calibration.algorithms.adaround import LAST_BETA, Rounding, Task, learn, round_adaptively
from calibration.algorithms.layers import layers_of, tensor_of
from calibration.algorithms.repairs import Repairs
from calibration.quantize import quantize
from calibration.ranges import INPUT, Ranges
from calibration.recipe import Recipe
from calibration.simulate import Simulator
from edge_apps.progress import shown_by
from edge_apps.runtime.preprocess import Preprocess
from pipeline.graphs.front_ends import ImageInput
from pipeline.zoo.units.pooling import AveragePool

Capture = Callable[[nn.Module], GraphModule]
Calibrate = Callable[..., Ranges]
Edit = Callable[[GraphModule, Repairs], GraphModule]

COARSE = Recipe(observer="minmax", weights="per-tensor")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer iterations."""
    monkeypatch.setattr(adaround, "ITERATIONS", 200)
    monkeypatch.setattr(adaround, "ROWS", 512)


def task(weight: torch.Tensor, inputs: torch.Tensor, low: float, high: float) -> Task:
    """One that this weight ``[groups, outputs of a group, K]`` fulfils, without a bias."""
    targets = torch.einsum("gmk,gok->gmo", inputs, weight).clamp(low, high)
    return Task(inputs, targets, torch.zeros(len(weight), 1, weight.shape[1]), low, high)


@pytest.mark.usefixtures("quick")
def test_two_by_two_weights_by_hand() -> None:
    """Both inputs are equal, so only the sum of an output's weights counts: 0.8 is 1 rather than 0, and 1.0 is 1."""
    exact = torch.tensor([[[0.45, 0.35], [-0.4, 1.4]]])
    inputs = torch.randn(1, 64, 1, generator=torch.Generator().manual_seed(0)).expand(1, 64, 2).contiguous()
    same = task(exact * 0.5, inputs, -torch.inf, torch.inf)
    found = learn(same, same, exact, torch.tensor(0.5))
    assert found is not None
    assert found[0, 0].sum() == 1
    assert found[0, 1].tolist() == [0, 1]  # nothing is better than the nearest


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("low", [-torch.inf, 0.0])
def test_nothing_is_much_better_than_what_is_learned(low: float) -> None:
    """Against all 2⁶ roundings of each output, with correlated inputs and, in turn, a ReLU."""
    chance = torch.Generator().manual_seed(1)
    exact = torch.rand(2, 3, 6, generator=chance) * 8 - 4
    inputs = torch.randn(2, 256, 6, generator=chance) @ torch.randn(2, 6, 6, generator=chance)
    whole = task(exact * 0.1, inputs, low, torch.inf)
    found = learn(whole, whole, exact, torch.tensor(0.1))
    assert found is not None
    ups = torch.tensor(list(itertools.product((0.0, 1.0), repeat=6)))
    every = torch.stack([whole.losses((exact.floor() + up) * 0.1) for up in ups])
    best, nearest, learned = every.min(0).values, whole.losses(exact.round() * 0.1), whole.losses(found * 0.1)
    assert (learned <= nearest).all()
    assert float((learned / best).log().mean()) < 0.35 * float((nearest / best).log().mean())
    assert ((found - exact).abs() < 1).all()


def test_gradients_are_those_of_autograd() -> None:
    chance = torch.Generator().manual_seed(2)
    exact = torch.randn(3, 4, 5, generator=chance) * 3
    weight = (exact * 0.2).requires_grad_()
    inputs = torch.randn(3, 32, 5, generator=chance)
    wanted = task(torch.randn(3, 4, 5, generator=chance), inputs, 0.0, 2.0)
    wanted.losses(weight).sum().backward()
    assert torch.allclose(wanted.slope(weight.detach()), weight.grad, atol=1e-5)

    rounding = Rounding(exact)
    rounding.variables.data.copy_(torch.randn(3, 4, 5, generator=chance) * 2)
    variables = rounding.variables.detach().clone().requires_grad_()
    h = (torch.sigmoid(variables) * 1.2 - 0.1).clamp(0, 1)
    assert torch.allclose(rounding.weight(), exact.floor() + h)
    ((1 - (2 * h - 1).abs() ** 3.5).sum() + (h * exact).sum()).backward()
    assert torch.allclose(rounding.back(rounding.pull(3.5) + exact), variables.grad, atol=1e-5)


def test_it_begins_where_the_weights_are_and_keeps_the_largest() -> None:
    exact = torch.tensor([[[127.0, 126.999994, -127.0, 126.6, 3.25, -0.75, 0.0]]])
    rounding = Rounding(exact)
    begun = rounding.weight()
    assert begun[0, 0, :4].tolist() == [127, 127, -127, 127]
    assert torch.allclose(begun[0, 0, 4:], exact[0, 0, 4:], atol=1e-6)
    slope = rounding.back(torch.ones_like(exact) + rounding.pull(LAST_BETA))
    assert slope[0, 0, :4].tolist() == [0, 0, 0, 0]
    assert (slope[0, 0, 4:6] != 0).all()


def test_nothing_to_learn() -> None:
    exact = torch.full((4, 1, 9), 127.0)
    anything = task(exact, torch.ones(4, 8, 9), -torch.inf, torch.inf)
    assert learn(anything, anything, exact, torch.tensor(1.0)) is None


def stored(graph: GraphModule, ranges: Ranges) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The int8 weights and their scales, layer by layer."""
    quantized = quantize(graph, ranges, fold_weights=True)[0]
    found = []
    for node in quantized.graph.nodes:
        if str(node.target) in ("aten.conv2d.default", "aten.linear.default") and node.args[1].op != "get_attr":
            held, scale = node.args[1].args[:2]
            values = getattr(quantized, scale.target) if not isinstance(scale, float) else torch.tensor([scale])
            integers = getattr(quantized, held.target)
            found.append((integers, values.double().view(-1, *[1] * (integers.dim() - 1))))
    return found


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("weights", ["per-channel", "per-tensor"])
def test_whoever_rounds_the_new_weights_finds_the_same_integers(
    weights: Any, small: nn.Module, captured: Capture, ranges_of: Calibrate, edited: Edit,
    pictures: torch.Tensor,
) -> None:  # fmt: skip
    graph = captured(small)
    batches = pictures.split(8)
    ranges = ranges_of(graph, batches, Recipe(observer="minmax", weights=weights))
    repairs = round_adaptively(graph, ranges, batches)
    assert repairs.tensors.keys() <= {layer.weight for layer in layers_of(graph)}
    assert len(repairs.tensors) >= 3
    before, after = stored(graph, ranges), stored(edited(graph, repairs), ranges)
    changed = 0
    for layer, (old, old_scale), (new, new_scale) in zip(layers_of(graph), before, after, strict=True):
        assert torch.allclose(old_scale, new_scale, rtol=1e-6)
        weight = tensor_of(graph, str(layer.weight)).double() / old_scale
        assert float((new - weight).abs().max()) < 1
        if layer.weight in repairs.tensors:
            assert torch.equal((repairs.tensors[layer.weight].double() / old_scale).round(), new.double())
            assert torch.allclose(repairs.tensors[layer.weight].double(), new * old_scale, rtol=1e-6)
            changed += int((new != old).sum())
        else:
            assert torch.equal(new, old)
    assert changed > 20


@pytest.mark.usefixtures("quick")
def test_int8_comes_nearer(
    small: nn.Module, captured: Capture, ranges_of: Calibrate, edited: Edit, preprocess: Preprocess,
    pictures: torch.Tensor,
) -> None:  # fmt: skip
    """The first layer on every position, computed here from quantized pictures, and the network's logits."""
    graph = captured(small)
    batches = pictures.split(8)
    ranges = ranges_of(graph, batches, COARSE)
    repairs = round_adaptively(graph, ranges, batches)
    front = ImageInput(nn.Identity(), preprocess)
    normalised = pictures * front.scale + front.offset
    scale, zero_point = ranges.qparams(INPUT)
    int8 = (((normalised / scale).round() + zero_point).clamp(-128, 127) - zero_point) * scale
    weight, bias = (tensor_of(graph, f"features.0.0.{name}") for name in ("weight", "bias"))
    step = weight.abs().max() / 127
    expected = functional.conv2d(normalised, weight, bias, 2, 1).clamp(0, 6)
    learned, nearest = (
        float((functional.conv2d(int8, w, bias, 2, 1).clamp(0, 6) - expected).square().mean())
        for w in (repairs.tensors["features.0.0.weight"], (weight / step).round() * step)
    )
    assert learned < 0.9 * nearest
    with torch.no_grad():
        noise = [
            float((Simulator(quantize(each, ranges, fold_weights=True)[0])(pictures) - graph(pictures)).square().mean())
            for each in (graph, edited(graph, repairs))
        ]
    assert noise[1] < 0.9 * noise[0]


@pytest.mark.usefixtures("quick")
def test_the_same_twice_and_every_layer_is_reported(
    small: nn.Module, captured: Capture, ranges_of: Calibrate, pictures: torch.Tensor
) -> None:
    graph = captured(small)
    before = {name: tensor.clone() for name, tensor in graph.state_dict().items()}
    batches = pictures.split(8)
    ranges = ranges_of(graph, batches, Recipe(weights="per-tensor", float_layers=("features.1.conv.1.0",)))
    recorder = Recorder()
    with shown_by(recorder):
        one = round_adaptively(graph, ranges, batches)
    assert one.to_bytes() == round_adaptively(graph, ranges, batches).to_bytes()
    assert [(work.total, work.finished) for work in recorder.work] == [(6, 6)]
    assert all(torch.equal(tensor, before[name]) for name, tensor in graph.state_dict().items())
    assert "features.1.conv.1.0.weight" not in one.tensors


class Mixed(nn.Module):
    """Groups, a shared layer, a constant pooling, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.grouped = nn.Conv2d(3, 8, 3, bias=False), nn.Conv2d(8, 8, 3, groups=2)
        self.twice, self.pool, self.last = nn.Conv2d(8, 8, 1), AveragePool(8, 3, 2), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.grouped(self.stem(x)))
        y = self.pool(self.twice(torch.relu(self.twice(y))))
        return self.last(y.mean((2, 3), keepdim=True).flatten(1))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("pictures_seen", [1, 12])
def test_layers_of_all_kinds(
    pictures_seen: int, captured: Capture, ranges_of: Calibrate, pictures: torch.Tensor
) -> None:
    torch.manual_seed(0)
    graph = captured(Mixed())
    batches = pictures[:pictures_seen].split(1)
    repairs = round_adaptively(graph, ranges_of(graph, batches, COARSE), batches)
    assert repairs.tensors.keys() <= {"stem.weight", "grouped.weight", "last.weight"}
    assert {"stem.weight", "grouped.weight"} <= repairs.tensors.keys()


@pytest.mark.usefixtures("quick")
def test_very_large_layers_are_left_alone(
    monkeypatch: pytest.MonkeyPatch, captured: Capture, ranges_of: Calibrate, pictures: torch.Tensor
) -> None:
    monkeypatch.setattr(adaround, "MOST_WEIGHTS", 250)
    torch.manual_seed(0)
    graph = captured(Mixed())
    batches = pictures.split(8)
    repairs = round_adaptively(graph, ranges_of(graph, batches, COARSE), batches)
    assert "stem.weight" in repairs.tensors  # 216 weights
    assert "grouped.weight" not in repairs.tensors  # 288
