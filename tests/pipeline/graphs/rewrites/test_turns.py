"""Every name of "exchange axes" is written as transpose or permute, and can be recorded in a program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from edge_apps.runtime.preprocess import Preprocess
from pipeline.checkpoints import programs, pt2_archive
from pipeline.graphs.prepare import prepare
from pipeline.graphs.rewrites.turns import TURNS

SIDE = 12
INPUT = Preprocess(height=SIDE, width=SIDE)

FUNCTIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "mT": lambda x: x.mT,
    "mH": lambda x: x.mH,
    "adjoint": lambda x: x.adjoint(),
    "swapaxes": lambda x: x.swapaxes(1, -1),
    "swapdims": lambda x: x.swapdims(2, 3),
    "moveaxis": lambda x: x.moveaxis(1, -1),
    "movedim": lambda x: x.movedim((1, 3), (3, 2)),
    "moved to where it is": lambda x: x.movedim(2, 2),
    "of a vector of rows": lambda x: x.flatten(1).T.t(),
}


class Turned(nn.Module):
    """A function between a convolution and a linear layer on everything."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.stem, self.function, self.head = nn.Conv2d(3, 4, 3, stride=2), function, nn.Linear(100, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.function(self.stem(x)).flatten(1).relu())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_numbers_stay_and_only_transpose_and_permute_are_left(name: str) -> None:
    torch.manual_seed(0)
    network = Turned(FUNCTIONS[name]).eval()
    found = prepare(network, INPUT)
    left: set[Any] = {node.target for node in found.network.nodes}
    assert not left & TURNS.keys()
    x = torch.randn(3, 3, SIDE, SIDE)
    with torch.no_grad():
        torch.testing.assert_close(found.network(x), network(x))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_program_with_it_is_written_and_read(name: str) -> None:
    torch.manual_seed(0)
    network = Turned(FUNCTIONS[name]).eval()
    program, _ = pt2_archive.read(pt2_archive.write(prepare(network, INPUT).original), "'turned.pt2'")
    again, _, _ = programs.network_of(program, "'turned.pt2'")
    x = torch.randn(3, 3, SIDE, SIDE)
    with torch.no_grad():
        torch.testing.assert_close(again(x), network(x))
