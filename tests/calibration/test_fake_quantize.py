"""int8 in training: the values of the graph that is exported, and gradients as if nothing had been rounded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from calibration.fake_quantize import ActivationRounding, BiasRounding, WeightRounding, fake_quantize
from calibration.quantize import quantize
from calibration.ranges import QParams, Ranges
from calibration.recipe import Recipe


class Branches(nn.Module):
    """What the small network lacks: concatenation, a gate, leaky ReLU, a layer whose bias is missing."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3, stride=2), nn.Conv2d(3, 4, 3, stride=2, bias=False)
        self.gate = nn.Conv2d(8, 8, 1)
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.cat([torch.relu(self.one(x)), nn.functional.leaky_relu(self.two(x), 0.1)], 1)
        x = nn.functional.max_pool2d(x * torch.sigmoid(self.gate(x)), 2)
        return self.head(x.mean((2, 3), keepdim=True).flatten(1))


@pytest.fixture(scope="module")
def branches() -> nn.Module:
    torch.manual_seed(0)
    return Branches().eval().requires_grad_(False)


@pytest.mark.parametrize(
    ("which", "changes"),
    [
        ("small", {"float_layers": ("features.1.conv.1.0", "classifier*")}),
        ("branches", {}),
        ("branches", {"weights": "per-tensor", "observer": "minmax"}),
    ],
)
def test_it_computes_what_the_exported_graph_computes(
    request: pytest.FixtureRequest,
    captured: Callable[..., Any],
    ranges_of: Callable[..., Ranges],
    pictures: torch.Tensor,
    which: str,
    changes: dict[str, Any],
) -> None:
    """To the last bit: PT2E's graph with int8 weights, rounded once, is what every int8 file is lowered from."""
    graph = captured(request.getfixturevalue(which))
    ranges = ranges_of(graph, pictures.split(20), Recipe(**changes))
    with torch.no_grad():
        exported = quantize(graph, ranges, fold_weights=True)[0](pictures)
        simulated, floating = fake_quantize(graph, ranges)(pictures), graph(pictures)
    assert torch.equal(simulated, exported)
    assert not torch.allclose(simulated, floating, atol=1e-4)


@pytest.mark.parametrize("per_channel", [True, False])
def test_weights_are_rounded_to_a_127th_of_the_largest(per_channel: bool) -> None:
    weight = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1, 5, 0.1, 0]).view(
        -1, 1, 1, 1
    )
    values = weight.numpy().astype(np.float64)
    largest = np.abs(values).max((1, 2, 3), keepdims=True)
    step = np.maximum(largest if per_channel else largest.max(), 127 * 2**-16) / 127
    rounded = WeightRounding(per_channel)(weight)
    assert rounded.numpy() == pytest.approx(np.round(values / step) * step, abs=1e-6)
    assert np.abs(np.round(values / step)).max() == 127


def test_gradients_pass_rounding_and_end_where_a_value_is_clipped() -> None:
    activation = ActivationRounding(QParams(0.1, -28))  # -10 … 15.5
    x = torch.tensor([-11.0, -9.97, 0.0, 3.14, 15.5, 16.0], requires_grad=True)
    rounded = activation(x)
    assert rounded.tolist() == pytest.approx([-10.0, -10.0, 0.0, 3.1, 15.5, 15.5])
    rounded.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 1, 1, 1, 1, 0]
    weights = WeightRounding(True)
    weight = torch.randn(4, 8, requires_grad=True)
    bias = torch.randn(4, requires_grad=True)
    factors = torch.randn(4, 8)
    rounded = BiasRounding(activation, weights)(bias, weight)
    assert torch.allclose(rounded, bias, atol=0.1 * float(weights.scales(weight).max()) / 2)
    assert not torch.equal(rounded, bias)
    ((weights(weight) * factors).sum() + rounded.sum()).backward()
    assert torch.equal(weight.grad, factors)  # type: ignore[arg-type]
    assert bias.grad is not None
    assert bias.grad.tolist() == [1] * 4
