"""``where`` and ``masked_fill`` as arithmetic: the same numbers, and left alone where a side is infinite."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from edge_apps.runtime.preprocess import Preprocess
from pipeline.graphs.prepare import prepare
from pipeline.graphs.rewrites.choices import Choice, ChoiceOrNumber

PREPROCESS = Preprocess(height=8, width=8)


class Body(nn.Module):
    """A function of a feature map between two layers."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.function, self.stem, self.head = function, nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[N, 3, 8, 8]`` to ``[N, 2]``."""
        return self.head(self.function(self.stem(x)).mean((2, 3)))


ROW = torch.arange(8) % 2 == 0


@pytest.mark.parametrize(
    ("function", "unit"),
    [
        (lambda x: torch.where(x > 0, x, 0.1 * x), Choice),
        (lambda x: torch.where(x.abs() < 0.5, torch.tensor(0.25), x), ChoiceOrNumber),
        (lambda x: torch.where(x > 0.2, x, 0.0), ChoiceOrNumber),
        (lambda x: x.masked_fill(x < 0, 0.0), ChoiceOrNumber),
        (lambda x: x.masked_fill(x < 0, -3.0), ChoiceOrNumber),
        (lambda x: torch.where(ROW, x, -x), Choice),
        (lambda x: torch.where(x > 0, torch.log(x), torch.zeros_like(x)), None),
        (lambda x: x.masked_fill(x < -9.0, float("-inf")), None),
    ],
)
def test_the_same_numbers(function: Callable[[torch.Tensor], torch.Tensor], unit: type[nn.Module] | None) -> None:
    network = Body(function).eval()
    prepared = prepare(network, PREPROCESS).network
    pixels = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(prepared(pixels), network(pixels))
    units = [module for module in prepared.modules() if isinstance(module, (Choice, ChoiceOrNumber))]
    assert [type(module) for module in units] == ([] if unit is None else [unit])
