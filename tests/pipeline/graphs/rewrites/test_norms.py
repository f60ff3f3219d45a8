"""Normalizations as means over a plane: the same numbers, and weights that follow those of the user's network."""

from __future__ import annotations

import pytest
import torch
from operator_chains import NORMS, Call, Chain
from torch import nn

from edge_apps.runtime.preprocess import Preprocess
from pipeline.graphs.front_ends import ImageInput, capture_images
from pipeline.graphs.prepare import prepare

SIDE = 12
INPUT = Preprocess(height=SIDE, width=SIDE)
LEFT_OUT = {"group_norm", "layer_norm", "instance_norm", "rms_norm", "var", "std", "var_mean", "std_mean", "batch_norm"}

STATISTICS = {
    "deviation": lambda x: x.std((2, 3)),
    "deviation of channels": lambda x: x.std(1, keepdim=True),
    "biased variance": lambda x: x.var((1, 3), unbiased=False),
    "variance of a row": lambda x: torch.var(x, -1),
    "variance with a correction": lambda x: torch.var(x, (2, 3), correction=2, keepdim=True),
    "variance and mean": lambda x: torch.cat(torch.var_mean(x, (2, 3)), 1),
    "deviation and mean": lambda x: torch.cat(torch.std_mean(x, 1), 1),
}


def operators(network: nn.Module) -> set[str]:
    graph = capture_images(ImageInput(network, INPUT).eval(), INPUT).graph
    return {str(node.target).split(".")[1] for node in graph.nodes if "aten." in str(node.target)}


def noise() -> torch.Tensor:
    return 3 * torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) + 1


@pytest.mark.parametrize("name", NORMS)
def test_a_normalization_is_means(name: str) -> None:
    torch.manual_seed(0)
    network = Chain(NORMS[name]()).eval()
    prepared = prepare(network, INPUT).network
    with torch.no_grad():
        assert torch.allclose(prepared(noise()), network(noise()), atol=1e-5)
    assert not operators(prepared) & LEFT_OUT


@pytest.mark.parametrize("name", STATISTICS)
def test_a_statistic_is_means(name: str) -> None:
    network = nn.Sequential(Call(STATISTICS[name]), nn.Flatten()).eval()
    prepared = prepare(network, INPUT).network
    assert torch.allclose(prepared(noise()), network(noise()), rtol=1e-5, atol=1e-6)
    assert not operators(prepared) & LEFT_OUT


@pytest.mark.parametrize("shape", [(3, SIDE, SIDE), (SIDE, SIDE), (SIDE,)])
def test_a_layer_norm_over_any_of_the_last_axes(shape: tuple[int, ...]) -> None:
    norm = nn.LayerNorm(shape)
    nn.init.normal_(norm.weight)
    network = nn.Sequential(norm, nn.Flatten()).eval()
    with torch.no_grad():
        assert torch.allclose(prepare(network, INPUT).network(noise()), network(noise()), atol=1e-5)


def test_a_group_norm_of_vectors() -> None:
    network = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.GroupNorm(3, 12)).eval()
    with torch.no_grad():
        assert torch.allclose(prepare(network, INPUT).network(noise()), network(noise()), atol=1e-5)


def test_the_weights_follow_those_of_the_network() -> None:
    """As quantization-aware training needs it."""
    torch.manual_seed(0)
    network = Chain(nn.GroupNorm(2, 8), nn.GroupNorm(2, 8)).eval()
    prepared = prepare(network, INPUT).network
    changed = {name: value + 0.5 for name, value in network.state_dict().items()}
    network.load_state_dict(changed)
    derived = prepared.derived(changed)
    with torch.no_grad():
        answered = torch.func.functional_call(prepared, derived, noise())
        assert torch.allclose(answered, network(noise()), atol=1e-4)
