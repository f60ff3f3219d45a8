"""Padding in front of maximum pooling: only where zeros win no maximum, and with the same result."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.export import export

from pipeline.targets.litert_rewrites.padding import pad_before_pooling

CONSTANT_PAD = torch.ops.aten.constant_pad_nd.default
POSITIVE: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "relu": torch.relu,
    "relu6": nn.functional.relu6,
    "sigmoid": torch.sigmoid,
    "slice": lambda x: torch.relu(x)[:, 1:3],
    "slices joined": lambda x: torch.cat([torch.relu(x)[:, :, :-1], torch.sigmoid(x)[:, :, -1:]], 2),
    "pooled": lambda x: nn.functional.max_pool2d(torch.relu(x), 3, 2),
}
SIGNED: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "as it comes": lambda x: x - 1,
    "slice": lambda x: x[:, 1:3] - 1,
    "joined with others": lambda x: torch.cat([torch.relu(x), x[:, :1] - 1], 1),
}


class Pooled(nn.Module):
    """A padded maximum behind a function."""

    def __init__(self, before: Callable[[torch.Tensor], torch.Tensor], pool: nn.Module) -> None:
        super().__init__()
        self.before, self.pool = before, pool

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pool(self.before(x))


def pads(before: Callable[[torch.Tensor], torch.Tensor], pool: nn.Module) -> int:
    """How many paddings are in the graph now; it computes what it computed."""
    network, x = Pooled(before, pool).eval(), torch.randn(2, 4, 11, 13, generator=torch.Generator().manual_seed(0))
    graph = pad_before_pooling(export(network, (x,), strict=False).module())
    assert torch.equal(graph(x), network(x))
    return sum(node.target == CONSTANT_PAD for node in graph.graph.nodes)


@pytest.mark.parametrize("name", POSITIVE)
def test_zeros_go_in_front_where_no_value_is_negative(name: str) -> None:
    assert pads(POSITIVE[name], nn.MaxPool2d(3, 2, 1)) == 1
    assert pads(POSITIVE[name], nn.MaxPool2d((3, 5), (2, 3), (1, 2))) == 1


@pytest.mark.parametrize("name", SIGNED)
def test_elsewhere_the_pooling_keeps_its_padding(name: str) -> None:
    assert pads(SIGNED[name], nn.MaxPool2d(3, 2, 1)) == 0


@pytest.mark.parametrize("pool", [nn.MaxPool2d(3, 1, 1), nn.MaxPool2d(3, 2)], ids=["same size", "unpadded"])
def test_what_needs_no_padding_operator_stays(pool: nn.Module) -> None:
    assert pads(torch.relu, pool) == 0
