"""What a network for devices holds, computed again from the parameters of the network that it was made of."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.func import functional_call

from edge_apps.runtime.preprocess import Preprocess
from pipeline import zoo
from pipeline.graphs.prepare import Prepared, prepare

# One of each family, as small as it goes. Without the mark: with batch norms, and without.
MEMBERS: tuple[tuple[str, int, dict[str, Any]], ...] = (
    ("vgg_a", 32, {"grid": 1, "width": 0.1, "batch_norm": True}),
    ("squeezenet_1_1", 32, {}),
)
LONG: tuple[tuple[str, int, dict[str, Any]], ...] = (
    ("alexnet_one_tower", 95, {"grid": 2, "width": 0.1}),
    ("alexnet", 67, {"grid": 1, "width": 0.1}),
    ("mobilenet_v1", 32, {"width": 0.1}),
    ("effnet", 32, {}),
    ("googlenet_bn", 36, {"width": 0.1}),
    ("resnet18", 32, {}),
    ("se_resnet18", 32, {}),
    ("mobilenet_v2", 32, {"width": 0.1, "reduction": 4}),
    ("shufflenet_v1", 32, {"groups": 3, "width": 0.25}),
    ("fd_mobilenet", 32, {"width": 0.1}),
    ("efficientnet_b0", 32, {}),
)


def shaken(network: nn.Module, seed: int) -> nn.Module:
    """A copy with other values everywhere, as lively as trained ones."""
    moved = copy.deepcopy(network)
    chance = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in moved.state_dict().items():
            if tensor.is_floating_point():
                factor = 0.8 + 0.4 * torch.rand(tensor.shape, generator=chance)
                tensor.mul_(factor).add_(0.01 if name.endswith(("bias", "mean")) else 0)
    return moved.eval()


def everything(network: nn.Module, prepared: Prepared) -> dict[str, torch.Tensor]:
    return {**prepared.original.constants, **network.state_dict()}


def check(network: nn.Module, side: int) -> None:
    prepared = prepare(network, Preprocess(height=side, width=side))
    flat = prepared.network
    held = dict(flat.named_parameters()) | dict(flat.named_buffers())
    same = flat.derived(everything(network, prepared))
    learnt = {path for path, tensor in held.items() if isinstance(tensor, nn.Parameter)}
    assert same.keys() >= learnt
    assert learnt
    for path, tensor in same.items():
        assert torch.allclose(tensor, held[path], rtol=1e-6, atol=1e-6), path
    # Other parameters: not what was folded at first, but what the network itself then computes.
    other, x = shaken(network, 1), torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = other(x)
        answered = functional_call(flat, flat.derived(everything(other, prepared)), (x,))
        before = flat(x)
    largest = float(expected.abs().max())
    assert float((expected - answered).abs().max()) <= 1e-4 * largest
    assert float((expected - before).abs().max()) > 1e-2 * largest


@pytest.mark.parametrize(
    ("name", "side", "options"),
    [
        *(pytest.param(*member, id=member[0]) for member in MEMBERS),
        *(pytest.param(*member, id=member[0], marks=pytest.mark.long) for member in LONG),
    ],
)
def test_folded_weights_follow_from_the_parameters(name: str, side: int, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    check(shaken(zoo.get(name).build(5, **options), 0), side)


class Odd(nn.Module):
    """A batch norm on the picture, weights that two calls with batch norms share, a computed weight, tied ones."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.BatchNorm2d(3, affine=False)
        self.shared = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.one, self.two = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        self.normed = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3, bias=False))
        self.after = nn.BatchNorm2d(4)
        self.head, self.again = nn.Linear(4, 4), nn.Linear(4, 4)
        self.again.weight = self.head.weight
        self.register_buffer("gain", torch.tensor([1.0, 2.0, 0.5, 3.0]), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        x = torch.relu(self.one(self.shared(x))) + torch.relu(self.two(self.shared(x)))
        x = torch.relu(self.after(self.normed(x))).mean((2, 3))
        weight = self.head.weight * self.gain
        return self.again(torch.relu(nn.functional.linear(x, weight, self.head.bias)))


def test_so_do_shared_and_computed_ones() -> None:
    torch.manual_seed(0)
    check(shaken(Odd(), 0), 16)
