"""Activations written by operators that delegates take: the same numbers, also where exponentials overflow."""

from __future__ import annotations

import pytest
import torch
from operator_chains import CHANNELS
from torch import nn

from calibration.float_region import in_float_region
from edge_apps.runtime.preprocess import Preprocess
from pipeline.graphs.front_ends import ImageInput, capture_images
from pipeline.graphs.prepare import prepare
from pipeline.graphs.rewrites.clamp import LARGEST_BOUND

SIDE = 8
INPUT = Preprocess(height=SIDE, width=SIDE)
VALUES = (0.0, 1e-4, 0.01, 0.3, 0.5, 1.0, 3.0, 8.0, 15.0, 20.5, 50.0, 87.0, 89.0, 104.0, 1e4)

EXACT = {
    "softplus": nn.Softplus(),
    "softplus of beta 3": nn.Softplus(beta=3),
    "softplus with a low threshold": nn.Softplus(beta=3, threshold=2),
    "logsigmoid": nn.LogSigmoid(),
    "mish": nn.Mish(),
    "elu": nn.ELU(alpha=0.7),
    "selu": nn.SELU(),
    "celu": nn.CELU(alpha=0.3),
    "gelu by tanh": nn.GELU(approximate="tanh"),
    "softshrink": nn.Softshrink(0.3),
    "hardshrink": nn.Hardshrink(0.25),
    "threshold": nn.Threshold(0.25, -2.0),
    "threshold of 0": nn.Threshold(0.0, 0.0),
    "clamp": nn.Hardtanh(-0.25, 3.5),
    "rrelu": nn.RReLU(),
}


class Pointwise(nn.Module):
    """A function of each value of the image."""

    def __init__(self, function: object) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x).flatten(1)  # type: ignore[operator]


def values() -> torch.Tensor:
    """Positive, negative, small and large."""
    found = torch.tensor([*VALUES, *[-value for value in VALUES]])
    return found.repeat(7)[: 3 * SIDE * SIDE].reshape(1, 3, SIDE, SIDE)


@pytest.mark.parametrize("name", EXACT)
def test_is_the_same_function_everywhere(name: str) -> None:
    network = Pointwise(EXACT[name]).eval()
    x = values()
    prepared = prepare(network, INPUT, x / 100).network
    expected, answered = network.double()(x.double()), prepared(x)
    assert torch.isfinite(answered).all()
    assert float(((answered - expected).abs() / (1 + expected.abs())).max()) < 1e-6


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (lambda x: x.clamp(min=0), "relu"),
        (lambda x: x.clamp(0, 6), "hardtanh"),
        (lambda x: torch.clamp(x, -1, 1), "hardtanh"),
        (lambda x: x.clamp(-0.5, 2), "relu"),
        (lambda x: x.clamp_min(0.1), "relu"),
        (lambda x: x.clamp(max=0.1), "relu"),
        (lambda x: x.clamp(-10 * LARGEST_BOUND, 10), "clamp"),
    ],
)
def test_a_clamp_is_what_runtimes_have(function: object, kind: str) -> None:
    network = Pointwise(function).eval()
    prepared = prepare(network, INPUT, values()).network
    graph = capture_images(ImageInput(prepared, INPUT).eval(), INPUT).graph
    found = {str(node.target).split(".")[1] for node in graph.nodes if "aten." in str(node.target)}
    assert kind in found
    assert torch.allclose(prepared(values()), network(values()), atol=1e-5, rtol=1e-6)


def test_everything_in_a_region_is_written_in_float() -> None:
    network = Pointwise(nn.Mish()).eval()
    graph = capture_images(ImageInput(prepare(network, INPUT).network, INPUT).eval(), INPUT).graph
    region = [str(node.target).split(".")[1] for node in graph.nodes if in_float_region(node)]
    assert sorted(region) == ["abs", "log", "mul", "relu", "sigmoid", "sub", "tanh"]


def test_halves_of_the_channels_gate_each_other() -> None:
    network = nn.Sequential(nn.Conv2d(3, CHANNELS, 1), nn.GLU(1), nn.Flatten()).eval()
    prepared = prepare(network, INPUT).network
    assert torch.allclose(prepared(values()), network(values()), atol=1e-5)
