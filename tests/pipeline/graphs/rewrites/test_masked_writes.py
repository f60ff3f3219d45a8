"""Writes at a mask or at constant indices are a choice with the same numbers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from edge_apps.runtime.preprocess import Preprocess
from pipeline.graphs.prepare import prepare

INPUT = Preprocess(height=8, width=8)


def written(x: torch.Tensor, place: Callable[[torch.Tensor], torch.Tensor], value: float) -> torch.Tensor:
    y = x.clone()
    y[place(y)] = value
    return y


@pytest.mark.parametrize(
    "function",
    [
        lambda x: written(x, lambda y: y < 0, 0.1),
        lambda x: written(x, lambda y: (y > 0) & (y < 1), -2.0),
        lambda x: x.index_fill(1, torch.tensor([1, 3]), 0.0),
        lambda x: x.index_fill(-1, torch.tensor([0]), 7.5),
    ],
)
def test_the_numbers_stay(function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(function(self.stem(x)).mean((2, 3)))

    torch.manual_seed(0)
    network = Net().eval()
    found = prepare(network, INPUT).network
    x = torch.randn(3, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(found(x), network(x))
    left = {str(node.target) for node in found.nodes}
    assert not {"aten.index_put.default", "aten.index_put_.default", "aten.index_fill.int_Scalar"} & left
