"""Bias correction against means computed by hand."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.fx import GraphModule

from calibration.algorithms.bias import correct_biases
from calibration.algorithms.layers import layers_of, watch
from calibration.algorithms.repairs import Repairs
from calibration.quantize import quantize
from calibration.ranges import INPUT, Ranges
from calibration.recipe import Recipe
from calibration.simulate import Simulator
from edge_apps.runtime.preprocess import Preprocess
from pipeline.graphs.front_ends import ImageInput

Capture = Callable[[nn.Module], GraphModule]
Calibrate = Callable[..., Ranges]
Edit = Callable[[GraphModule, Repairs], GraphModule]

COARSE = Recipe(observer="minmax", weights="per-tensor")


def int8(graph: GraphModule, ranges: Ranges) -> Simulator:
    return Simulator(quantize(graph, ranges, fold_weights=True)[0])


def test_one_layer_by_hand(
    captured: Capture, ranges_of: Calibrate, edited: Edit, preprocess: Preprocess, pictures: torch.Tensor
) -> None:
    """One weight is so large that the step is 1: 2 / 5 of a step rounds to nothing, all over the picture."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2))
    with torch.no_grad():
        network[1].weight.fill_(0.4)
        network[1].weight[:, 0] = 127
        network[1].bias.copy_(torch.tensor([1.0, -1.0]))
    graph = captured(network)
    batches = pictures.split(8)
    ranges = ranges_of(graph, batches, COARSE)
    repairs = correct_biases(graph, graph, ranges, batches)
    assert repairs.tensors.keys() == {"1.bias"}

    front = ImageInput(nn.Identity(), preprocess)
    normalised = (pictures * front.scale + front.offset).flatten(1).double()
    scale, zero_point = ranges.qparams(INPUT)
    rounded = ((normalised / scale).round() + zero_point).clamp(-128, 127) * scale - zero_point * scale
    shift = (normalised[:, 0] * 127 + normalised[:, 1:].sum(1) * 0.4).mean() - (rounded[:, 0] * 127).mean()
    step = ranges.qparams("1:linear:0").scale
    assert abs(float(shift)) > 5 * step  # rounding the output adds noise of half a step to each picture
    expected = torch.tensor([1.0, -1.0]) + shift
    assert torch.allclose(repairs.tensors["1.bias"], expected.float(), atol=step / 4)
    for graph_of_one, nearer in ((graph, False), (edited(graph, repairs), True)):
        off = (graph(pictures).mean(0) - int8(graph_of_one, ranges)(pictures).mean(0)).abs()
        assert bool((off < step / 4).all()) is nearer


def disturbed(small: nn.Module, captured: Capture) -> tuple[GraphModule, GraphModule]:
    """A network, and the same with every weight rounded down to a coarse grid: its channels are off in the mean."""
    graph, coarse = captured(small), captured(copy.deepcopy(small))  # a graph holds the network's own tensors
    for layer in layers_of(coarse):
        held = coarse
        for part in ("network", *str(layer.weight).split(".")):
            held = getattr(held, part)
        step = held.abs().max() / 16
        held.data.copy_((held / step).floor() * step)
    return graph, coarse


def means(graph: GraphModule, batches: list[torch.Tensor]) -> list[torch.Tensor]:
    found: dict[object, list[torch.Tensor]] = {}
    rows = {layer.node: layer.rows for layer in layers_of(graph)}
    watch(graph, batches, lambda node, _source, output: found.setdefault(node, []).append(rows[node](output)))
    return [torch.cat(outputs).mean(0) for outputs in found.values()]


@pytest.mark.parametrize("size", [1, 16])
def test_every_layer_is_right_in_the_mean(
    size: int, small: nn.Module, captured: Capture, ranges_of: Calibrate, edited: Edit, pictures: torch.Tensor
) -> None:
    reference, coarse = disturbed(small, captured)
    batches = list(pictures.split(size))
    ranges = ranges_of(coarse, batches, Recipe(observer="minmax"))
    repairs = correct_biases(reference, coarse, ranges, batches)
    assert repairs.tensors.keys() == {layer.bias for layer in layers_of(coarse)}
    expected = means(reference, batches)
    quantized = {
        name: quantize(graph, ranges, fold_weights=True)[0]
        for name, graph in (("before", coarse), ("after", edited(coarse, repairs)))
    }
    off = {
        name: [float((a - b).abs().max()) for a, b in zip(means(graph, batches), expected, strict=True)]
        for name, graph in quantized.items()
    }
    # Plain arithmetic of the graph, not the simulator's: what remains is rounding.
    assert all(after < max(before / 4, 0.01) for before, after in zip(off["before"], off["after"], strict=True)), off
    assert off["after"][-1] < off["before"][-1] / 10


def test_the_same_twice_and_nothing_else_is_touched(
    small: nn.Module, captured: Capture, ranges_of: Calibrate, pictures: torch.Tensor
) -> None:
    reference, coarse = disturbed(small, captured)
    batches = pictures.split(16)
    ranges = ranges_of(coarse, batches, Recipe(float_layers=("features.1.conv.1.0",)))
    before = {name: tensor.clone() for name, tensor in coarse.state_dict().items()}
    one, other = (correct_biases(reference, coarse, ranges, batches) for _ in range(2))
    assert one.to_bytes() == other.to_bytes()
    assert all(torch.equal(tensor, before[name]) for name, tensor in coarse.state_dict().items())
    assert "features.1.conv.1.0.bias" in one.tensors  # computes in float, from int8 inputs
    assert all(tensor.dtype == torch.float32 for tensor in one.tensors.values())


def test_layers_without_a_bias_of_their_own(captured: Capture, ranges_of: Calibrate, pictures: torch.Tensor) -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.none, self.twice = nn.Conv2d(3, 3, 1, bias=False), nn.Conv2d(3, 3, 1)
            self.last = nn.Conv2d(3, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(self.twice(torch.relu(self.twice(self.none(x))))).mean((2, 3), keepdim=True).flatten(1)

    torch.manual_seed(0)
    graph = captured(Network())
    ranges = ranges_of(graph, [pictures], COARSE)
    assert correct_biases(graph, graph, ranges, [pictures]).tensors.keys() == {"last.bias"}
