"""What no image changes is computed once: constants that a forward makes, and the parts of a weight."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from edge_apps.runtime.preprocess import Preprocess
from pipeline.graphs.flat import FlatNetwork
from pipeline.graphs.prepare import prepare

SIDE = 12
INPUT = Preprocess(height=SIDE, width=SIDE)
aten: Any = torch.ops.aten


class Around(nn.Module):
    """A function of a map ``[N, 4, 6, 6]`` and of a parameter, between a convolution and a linear layer."""

    def __init__(self, function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], parameter: torch.Tensor) -> None:
        super().__init__()
        self.stem, self.function = nn.Conv2d(3, 4, 2, stride=2), function
        self.parameter, self.head = nn.Parameter(parameter), nn.LazyLinear(3)
        with torch.no_grad():
            self(torch.zeros(2, 3, SIDE, SIDE))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.function(self.stem(x), self.parameter).flatten(1))


def same(function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], *shape: int) -> FlatNetwork:
    torch.manual_seed(0)
    network = Around(function, torch.randn(shape)).eval()
    found = prepare(network, INPUT).network
    x = torch.randn(3, 3, SIDE, SIDE)
    with torch.no_grad():
        torch.testing.assert_close(found(x), network(x))
        torch.testing.assert_close(found(x), network(x))  # nothing that was made is changed from run to run
    original = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    for path, tensor in found.derived(original).items():
        torch.testing.assert_close(tensor, dict([*found.named_parameters(), *found.named_buffers()])[path])
    return found


def targets(network: FlatNetwork) -> set[Any]:
    return {node.target for node in network.nodes}


@pytest.mark.parametrize(
    "function",
    [
        lambda x, p: x + torch.ones(4, 1, 1) * 2 + p,
        lambda x, p: x * torch.linspace(-1, 1, 6) + p,
        lambda x, p: x + torch.full((6, 6), -1e4).triu(1) * p,
        lambda x, p: x + torch.arange(6) * p,
        lambda x, p: x @ torch.eye(6) + p,
    ],
)
def test_constants_that_the_forward_makes_are_held(function: Any) -> None:
    made = {aten.ones.default, aten.linspace.default, aten.full.default, aten.arange.default, aten.eye.default}
    assert not targets(same(function, 4, 1, 1)) & {*made, aten.triu.default}


def test_a_tensor_that_is_written_into_is_made_for_each_image() -> None:
    def written(x: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        total = torch.zeros(4)
        total.diagonal(0, 0, 0).add_(1) if total.dim() > 1 else total.add_(x.mean((0, 2, 3)) * 0 + 1)
        return x + p * total[:, None, None]

    same(written, 4, 1, 1)


def test_parts_of_a_weight_are_weights() -> None:
    def parts(x: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        one, other = p.split([2, 4])
        return nn.functional.conv2d(x, one) + nn.functional.conv2d(x, other.chunk(2)[1])

    assert aten.split_with_sizes.default not in targets(same(parts, 6, 4, 1, 1))


def test_one_learned_query_is_computed_once() -> None:
    """Its stored form has no axis with a stride of its own: XNNPACK fails on such a file."""
    attention = nn.MultiheadAttention(4, 2, batch_first=True).eval()

    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.query = nn.Conv2d(3, 4, 2, stride=2), nn.Parameter(torch.randn(1, 1, 4))
            self.attention, self.head = attention, nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            tokens = self.stem(x).flatten(2).mT
            return self.head(self.attention(self.query.expand(len(x), -1, -1), tokens, tokens)[0].squeeze(1))

    network = Pooled().eval()
    found = prepare(network, INPUT).network
    x = torch.randn(1, 3, SIDE, SIDE)
    with torch.no_grad():
        torch.testing.assert_close(found(x), network(x))
    for path, tensor in found.named_parameters():
        assert tensor.stride() == torch.empty(tensor.shape).stride(), path
