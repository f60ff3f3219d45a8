"""Linear layers on tensors of any rank, against the same network written with 1×1 convolutions: the same integers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from torch import nn
from torch.fx import GraphModule

from calibration.algorithms import adaround
from calibration.algorithms.adaround import round_adaptively
from calibration.algorithms.bias import correct_biases
from calibration.algorithms.equalize import equalize
from calibration.algorithms.layers import layers_of
from calibration.algorithms.repairs import Repairs
from calibration.channel_flow import ChannelPlace, follow, place_of_output
from calibration.fake_quantize import fake_quantize
from calibration.quantize import quantize
from calibration.ranges import Ranges
from calibration.recipe import Recipe
from calibration.simulate import Simulator

Capture = Callable[[nn.Module], GraphModule]
Calibrate = Callable[..., Ranges]

RECIPE = Recipe(observer="minmax", weights="per-tensor")
WIDTH, HIDDEN = 6, 10


class Mixing(nn.Module):
    """A stem, a residual block of two layers on every position, the mean over positions, logits.

    ``layout`` says how positions lie: pixels as convolutions see them, channels last, tokens, or tokens in front.
    """

    def __init__(self, layout: str) -> None:
        super().__init__()
        self.layout = layout
        layer: Any = (lambda i, o: nn.Conv2d(i, o, 1)) if layout == "convolutions" else nn.Linear
        self.stem, self.last = nn.Conv2d(3, WIDTH, 8, 8), nn.Linear(WIDTH, 3)
        self.up, self.down = layer(WIDTH, HIDDEN), layer(HIDDEN, WIDTH)
        chance = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=chance) / parameter[0].numel() ** 0.5)
            # Channels out of balance, so that there is something to equalize.
            self.up.weight.mul_(torch.logspace(-1, 1, HIDDEN).view(-1, *[1] * (self.up.weight.dim() - 1)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = {
            "convolutions": lambda: x,
            "pixels": lambda: x.permute(0, 2, 3, 1),
            "tokens": lambda: x.flatten(2).transpose(1, 2),
            "tokens in front": lambda: x.flatten(2).permute(2, 0, 1),
        }[self.layout]()
        x = x + self.down(torch.relu(self.up(x)))
        positions = {"convolutions": (2, 3), "pixels": (1, 2), "tokens": (1,), "tokens in front": (0,)}[self.layout]
        return self.last(x.mean(positions))


LAYOUTS = ["pixels", "tokens", "tokens in front"]


@pytest.fixture(scope="module")
def batches(pictures: torch.Tensor) -> list[torch.Tensor]:
    """The last one is smaller."""
    return list(pictures.split(16))


@pytest.fixture(scope="module")
def with_convolutions(captured: Capture) -> GraphModule:
    return captured(Mixing("convolutions"))


def same(one: Repairs, other: Repairs, atol: float = 0.0) -> None:
    """Both edit the same tensors to the same values, whatever the shape of the weights."""
    assert one.tensors.keys() == other.tensors.keys()
    for name, tensor in one.tensors.items():
        assert torch.allclose(tensor.flatten(), other.tensors[name].flatten(), atol=atol, rtol=1e-5), name


def in_int8(graph: GraphModule, ranges: Ranges, batches: list[torch.Tensor]) -> torch.Tensor:
    simulator = Simulator(quantize(graph, ranges, fold_weights=True)[0])
    return torch.cat([simulator(batch) for batch in batches])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_simulation_is_that_of_convolutions(
    captured: Capture, ranges_of: Calibrate, batches: list[torch.Tensor], with_convolutions: GraphModule, layout: str
) -> None:
    graph = captured(Mixing(layout))
    expected, own = (ranges_of(network, batches, RECIPE) for network in (with_convolutions, graph))
    values = {
        key if key in own.values else key.replace("conv2d", "linear"): value for key, value in expected.values.items()
    }
    assert values.keys() == own.values.keys()
    for key, value in values.items():
        assert tuple(own.values[key]) == pytest.approx(tuple(value), rel=1e-5)
    same_scales = msgspec.structs.replace(own, values=values)
    assert torch.equal(in_int8(graph, same_scales, batches), in_int8(with_convolutions, expected, batches))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_so_is_the_repair_of_the_weights(
    captured: Capture,
    ranges_of: Calibrate,
    batches: list[torch.Tensor],
    with_convolutions: GraphModule,
    edited: Callable[[GraphModule, Repairs], GraphModule],
    monkeypatch: pytest.MonkeyPatch,
    layout: str,
) -> None:
    monkeypatch.setattr(adaround, "ITERATIONS", 60)
    monkeypatch.setattr(adaround, "ROWS", 160)  # 4 of 16 positions of each image
    graph = captured(Mixing(layout))
    scaled, expected = equalize(graph, batches), equalize(with_convolutions, batches)
    assert {"up.weight", "up.bias", "down.weight"} <= expected.scaled.keys()
    same(scaled, expected)
    assert torch.allclose(edited(graph, scaled)(batches[0]), graph(batches[0]), atol=1e-4)
    ranges, twin = ranges_of(graph, batches, RECIPE), ranges_of(with_convolutions, batches, RECIPE)
    rounded, wanted = round_adaptively(graph, ranges, batches), round_adaptively(with_convolutions, twin, batches)
    assert rounded.rounded.keys() & {"up.weight", "down.weight"}
    same(rounded, wanted, atol=1e-6)
    corrected = correct_biases(graph, edited(graph, rounded), ranges, batches)
    same(corrected, correct_biases(with_convolutions, edited(with_convolutions, wanted), twin, batches), atol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_training_rounds_as_files_do(
    captured: Capture, ranges_of: Calibrate, batches: list[torch.Tensor], layout: str
) -> None:
    graph = captured(Mixing(layout))
    ranges = ranges_of(graph, batches, Recipe(observer="minmax"))
    with torch.no_grad():
        trained = fake_quantize(graph, ranges)(batches[0])
        converted = quantize(graph, ranges, fold_weights=True)[0](batches[0])
    assert torch.allclose(trained, converted, atol=1e-5)


class Chain(nn.Module):
    """A layer, something, a layer."""

    def __init__(self, one: nn.Module, between: Callable[[torch.Tensor], torch.Tensor], other: nn.Module) -> None:
        super().__init__()
        self.one, self.between, self.other = one, between, other

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.other(self.between(self.one(x))).flatten(1)[:, :4]


def conv() -> nn.Conv2d:
    return nn.Conv2d(3, 8, 4, 4)


BETWEEN: dict[str, tuple[Any, Any, Any, ChannelPlace | None]] = {
    "pixels": (conv(), lambda x: x.permute(0, 2, 3, 1), nn.Linear(8, 4), ChannelPlace(3)),
    "tokens": (conv(), lambda x: x.flatten(2).transpose(1, 2).relu(), nn.Linear(8, 4), ChannelPlace(2)),
    "back to a map": (conv(), lambda x: x.flatten(2).view(-1, 8, 4, 16), nn.Conv2d(8, 4, 1), ChannelPlace(1)),
    "one token": (conv(), lambda x: x.flatten(2).transpose(1, 2)[:, 0], nn.Linear(8, 4), ChannelPlace(1)),
    "some tokens": (conv(), lambda x: x.flatten(2).transpose(1, 2)[:, 2:5], nn.Linear(8, 4), ChannelPlace(2)),
    "mean of pixels": (conv(), lambda x: x.permute(0, 2, 3, 1).mean((1, 2)), nn.Linear(8, 4), ChannelPlace(1)),
    "all values": (conv(), lambda x: x.flatten(1), nn.Linear(8 * 64, 4), ChannelPlace(1, 64)),
    "windows": (
        conv(),
        lambda x: x.permute(0, 2, 3, 1).reshape(-1, 2, 4, 2, 4, 8).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, 8),
        nn.Linear(8, 4),
        ChannelPlace(2),
    ),
    "pixels of channels": (conv(), lambda x: x.permute(0, 2, 3, 1).flatten(1), nn.Linear(8 * 64, 4), None),
    "token mixing": (conv(), lambda x: x.flatten(2), nn.Linear(64, 4), None),
    "mean of channels": (conv(), lambda x: x.mean(1).flatten(1), nn.Linear(64, 4), None),
    "layer norm": (conv(), lambda x: nn.functional.layer_norm(x.permute(0, 2, 3, 1), (8,)), nn.Linear(8, 4), None),
    "padded channels": (
        conv(),
        lambda x: nn.functional.pad(x.permute(0, 2, 3, 1), (1, 1)),
        nn.Linear(10, 4),
        None,
    ),
}


@pytest.mark.parametrize("name", BETWEEN)
def test_a_factor_per_channel_passes_what_only_moves_values(
    captured: Capture, batches: list[torch.Tensor], edited: Callable[[GraphModule, Repairs], GraphModule], name: str
) -> None:
    """Where it passes, the network computes the same with scaled weights; elsewhere the layers are no pair."""
    torch.manual_seed(1)
    one, between, other, expected = BETWEEN[name]
    with torch.no_grad():
        one.weight.mul_(torch.logspace(-1, 1, 8).view(-1, 1, 1, 1))
    graph = captured(Chain(one, between, other))
    repairs = equalize(graph, batches)
    assert bool(repairs.scaled) is (expected is not None)
    with torch.no_grad():
        before, after = graph(batches[0]), edited(graph, repairs)(batches[0])
    assert torch.allclose(before, after, atol=1e-4 * float(before.abs().max()))
    if expected is not None:
        layer, last = layers_of(graph)
        here, place = layer.node, place_of_output(layer.node)
        while here is not last.node.args[0]:
            (here,) = here.users
            moved = follow(here, place, 8)
            assert moved is not None
            place = moved
        assert place == expected


def test_half_of_a_windows_axis_is_another_image(captured: Capture, pictures: torch.Tensor) -> None:
    """Adaptive rounding draws positions image by image where several windows of one lie on the batch axis."""
    from calibration.algorithms.layers import watch
    from calibration.algorithms.patches import Positions

    layer = nn.Linear(6, 5)

    class Windows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.layer = nn.Conv2d(3, 6, 8, 8), layer

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            windows = self.stem(x).permute(0, 2, 3, 1).reshape(-1, 2, 2, 2, 2, 6).permute(0, 1, 3, 2, 4, 5)
            return self.layer(windows.reshape(-1, 4, 6)).reshape(-1, 4 * 4 * 5)[:, :3]

    graph = captured(Windows())
    found = layers_of(graph)[1]
    positions, sources = Positions(found, [16, 16, 8], 7, seed=3), []

    def look(node: Any, source: torch.Tensor, output: torch.Tensor) -> None:
        if node is found.node:
            positions.note(output)
            sources.append(source)

    watch(graph, list(pictures.split(16)), look)
    inputs, outputs = positions.inputs(sources, ()), positions.outputs()
    assert (inputs.shape, outputs.shape) == ((40, 7, 1, 6), (40, 7, 5))
    assert np.allclose(layer(inputs[:, :, 0]).detach(), outputs, atol=1e-5)
