"""A network that does not take an image of a batch for itself is captured for one image, and said to mix them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from edge_apps.runtime.preprocess import Preprocess
from pipeline.graphs.batches import batch_use
from pipeline.graphs.flat import FlatNetwork
from pipeline.graphs.prepare import export_network, prepare

SIDE = 8
INPUT = Preprocess(height=SIDE, width=SIDE)

Function = Callable[[torch.Tensor], torch.Tensor]


class Ending(nn.Module):
    """A function of a map, and one of the logits."""

    def __init__(self, function: Function = lambda x: x, last: Function = lambda x: x) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)
        self.inner, self.last = Call(function), last

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.head(self.inner(self.stem(x)).relu().mean((2, 3))))


class Call(nn.Module):
    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


def image() -> torch.Tensor:
    return torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def test_a_network_that_takes_any_batch() -> None:
    found = prepare(Ending().eval(), INPUT)
    assert (found.network.batch, found.mixing) == (None, None)


@pytest.mark.parametrize("last", [lambda x: x.view(1, -1), lambda x: x.reshape(1, 3), lambda x: x[:1]])
def test_a_network_of_one_image(last: Function) -> None:
    network = Ending(last=last).eval()
    found = prepare(network, INPUT)
    assert (found.network.batch, found.mixing) == (1, None)
    with torch.no_grad():
        torch.testing.assert_close(found.network(image()), network(image()))
        assert found.network(image().expand(3, -1, -1, -1)).shape == (3, 3)


@pytest.mark.parametrize(
    ("function", "operator"),
    [
        (lambda x: x - x.mean(0), "'aten.sub.Tensor' in 'inner'"),
        (lambda x: x.roll(5), "'aten.roll.default' in 'inner'"),
        (lambda x: x.flip(0) + x, "'aten.flip.default' in 'inner'"),
        (lambda x: x * x.softmax(0), "'aten.softmax.int' in 'inner'"),
        (lambda x: x / (1 + x.norm()), "'aten.div.Tensor' in 'inner'"),
    ],
)
def test_a_network_that_mixes_images_names_where(function: Function, operator: str) -> None:
    network = Ending(function).eval()
    found = prepare(network, INPUT)
    assert (found.network.batch, found.mixing) == (1, operator)
    with torch.no_grad():
        torch.testing.assert_close(found.network(image()), network(image()))


def test_a_program_of_one_image_that_mixes_them() -> None:
    program = torch.export.export(Ending(lambda x: x - x.mean(0)).eval(), (image(),))
    network = FlatNetwork(program, batch=1)
    assert batch_use(network, INPUT) == "mixed"
    assert network.batch == 1


def test_rounding_is_no_mixing() -> None:
    """Batches of one size give the same bits, whatever a network makes of rounding errors."""
    assert export_network(Ending(lambda x: (x + 1e5) - 1e5).eval(), INPUT).mixing is None
