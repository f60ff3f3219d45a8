"""Constants that are joined to values: padding where they are zeros for good, else a sum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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


def prepared(function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], parameter: torch.Tensor) -> FlatNetwork:
    torch.manual_seed(0)
    network = Around(function, parameter).eval()
    found = prepare(network, INPUT).network
    x = torch.randn(3, 3, SIDE, SIDE)
    with torch.no_grad():
        torch.testing.assert_close(found(x), network(x))
    original = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    held = dict([*found.named_parameters(), *found.named_buffers()])
    for path, tensor in found.derived(original).items():
        torch.testing.assert_close(tensor, held[path])
    return found


def test_joined_zeros_are_padding_alone() -> None:
    def joined(x: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        return torch.cat([x * p, torch.zeros(2, 6, 6).expand(x.shape[0], -1, -1, -1)], 1)

    found = prepared(joined, torch.randn(4, 1, 1))
    assert not {aten.cat.default, aten.add.Tensor} & {node.target for node in found.nodes}


def test_joined_parameters_are_added_even_if_they_are_zeros() -> None:
    """They learn."""
    found = prepared(lambda x, p: torch.cat([x, p.expand(x.shape[0], -1, -1, -1)], 1), torch.zeros(1, 2, 6, 6))
    assert any(path.endswith("joined") for path, _ in found.named_parameters())
