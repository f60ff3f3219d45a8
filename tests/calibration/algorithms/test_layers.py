"""What the repairs know of a graph, against modules and operators run by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.fx import GraphModule, Interpreter

from calibration.algorithms.layers import Walk, bounds_of, evenly, layers_of, tensor_of, watch
from calibration.algorithms.patches import Positions

Capture = Callable[[nn.Module], GraphModule]


def test_tensors_have_the_names_that_they_have_in_the_network(small: nn.Module, captured: Capture) -> None:
    graph = captured(small)
    layers = layers_of(graph)
    held = dict(small.named_parameters())
    assert {layer.weight for layer in layers} | {layer.bias for layer in layers} == held.keys()
    for layer in layers:
        assert torch.equal(tensor_of(graph, str(layer.weight)), held[str(layer.weight)])
        assert layer.weight == f"{layer.path}.weight"
    assert [layer.groups for layer in layers] == [1, 1, 16, 1, 1, 1]
    assert [layer.is_convolution for layer in layers] == [True] * 5 + [False]


def test_what_two_operators_read_is_nobodys_own(captured: Capture) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.last = nn.Conv2d(3, 3, 1, bias=False), nn.Conv2d(3, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(self.conv(self.conv(x))).mean((2, 3), keepdim=True).flatten(1) + self.last.bias

    first, second, last = layers_of(captured(Twice()))
    assert first.weight is None
    assert second.weight is None
    assert last.weight == "last.weight"
    assert last.bias is None
    assert not first.has_bias
    assert last.has_bias


def test_bounds_are_what_the_activation_does(captured: Capture) -> None:
    activations = nn.ModuleList([nn.ReLU(), nn.ReLU6(), nn.Hardtanh(), nn.Hardtanh(-2.0, 3.0)])

    class All(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.activations = activations

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([activation(x * 100).flatten(1) for activation in self.activations], 1)

    graph = captured(All())
    nodes = [node for node in graph.graph.nodes if "hardtanh" in str(node.target) or "relu" in str(node.target)]
    wide = torch.linspace(-50, 50, 9)
    assert len(nodes) == 4
    for activation, node in zip(activations, nodes, strict=True):
        assert torch.equal(wide.clamp(*bounds_of(node)), activation(wide))
    assert torch.equal(wide.clamp(*bounds_of(None)), wide)


def test_evenly_takes_pictures_from_all_batches() -> None:
    batches = list(torch.arange(10.0).view(10, 1).split(4))
    assert [batch.flatten().tolist() for batch in evenly(batches, 4)] == [[0, 3, 6, 9]]
    assert [len(batch) for batch in evenly(batches, 100)] == [4, 4, 2]
    assert torch.equal(torch.cat(evenly(batches, 100)), torch.cat(batches))


def test_watching_sees_outputs_before_their_activation(
    small: nn.Module, captured: Capture, pictures: torch.Tensor
) -> None:
    seen: list[tuple[str, tuple[int, ...], float]] = []
    graph = captured(small)
    paths = {layer.node: layer.path for layer in layers_of(graph)}
    watch(graph, pictures.split(16), lambda n, s, o: seen.append((paths[n], tuple(s.shape), float(o.min()))))
    assert [path for path, _, _ in seen[:6]] == list(paths.values())
    assert len(seen) == 3 * 6
    assert seen[0][1] == (16, 3, 32, 32)
    assert seen[0][2] < 0


class Counting(Interpreter):
    ran: list[str]

    def run_node(self, n: Any) -> Any:
        type(self).ran.append(n.name)
        return super().run_node(n)


def test_a_walk_computes_what_a_run_does_and_constants_once(
    small: nn.Module, captured: Capture, pictures: torch.Tensor
) -> None:
    graph = captured(small)
    Counting.ran = []
    batches = pictures.split(16)
    walk = Walk(graph, batches, Counting)
    last: list[torch.Tensor] = []
    for node in walk.layers():
        last = list(walk.outputs(node))
    with torch.no_grad():
        assert all(torch.equal(out, graph(batch)) for out, batch in zip(last, batches, strict=True))
    assert Counting.ran.count("network_classifier_1_weight") == 1
    assert Counting.ran.count("conv2d") == 6  # asked for, and run, in each of three batches


def test_a_walk_goes_on_with_what_was_replaced(small: nn.Module, captured: Capture, pictures: torch.Tensor) -> None:
    graph = captured(small)
    walk = Walk(graph, pictures.split(16), Interpreter)
    for node in walk.layers():
        weight: Any = node.args[1]
        walk.replace(weight, torch.zeros_like(walk.constant(weight)))
        bias: Any = node.args[2]
        answers = torch.cat(list(walk.outputs(node)))
        assert torch.equal(answers.movedim(1, -1), walk.constant(bias).expand_as(answers.movedim(1, -1)))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(6, 8, 3, stride=2, padding=1, groups=2),
        nn.Conv2d(6, 12, (3, 5), stride=(1, 2), padding=(0, 3), dilation=(2, 1), groups=6),
        nn.Conv2d(6, 4, 1),
        nn.Linear(6, 5),
    ],
    ids=["grouped", "oblong", "1x1", "linear"],
)
def test_patches_times_weights_are_the_layers_output(layer: Any, captured: Capture, pictures: torch.Tensor) -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.layer = nn.Conv2d(3, 6, 3), layer

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.stem(x)
            y = y.mean((2, 3), keepdim=True).flatten(1) if isinstance(self.layer, nn.Linear) else y
            return self.layer(y).flatten(1)

    torch.manual_seed(0)
    graph = captured(Network())
    found = layers_of(graph)[1]
    positions, sources = Positions(found, [16, 16, 8], 7, seed=3), []

    def look(node: Any, source: torch.Tensor, output: torch.Tensor) -> None:
        if node is found.node:
            positions.note(output)
            sources.append(source)

    watch(graph, pictures.split(16), look)
    weight = layer.weight.detach()
    inputs, outputs = positions.inputs(sources, weight.shape[2:]), positions.outputs()
    count = 1 if isinstance(layer, nn.Linear) else 7
    assert outputs.shape == (40, count, len(weight))
    assert inputs.shape == (40, count, found.groups, weight[0].numel())
    by_group = weight.view(found.groups, -1, weight[0].numel())
    products = torch.einsum("npgk,gok->npgo", inputs, by_group).flatten(2) + layer.bias.detach()
    assert torch.allclose(products, outputs, atol=1e-4)
