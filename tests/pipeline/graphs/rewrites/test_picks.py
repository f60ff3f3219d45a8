"""Padding, rolling, flipping and picking by slices and concatenations: equal to the last bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from operator_chains import PADDINGS, Chain, applied
from torch.nn import functional

from edge_apps.runtime.preprocess import Preprocess
from pipeline.graphs.front_ends import ImageInput, capture_images
from pipeline.graphs.picks import MOST_JOINED, Pick, runs
from pipeline.graphs.prepare import prepare

SIDE = 9
INPUT = Preprocess(height=SIDE, width=SIDE)
LEFT_OUT = {"pad", "roll", "flip", "index", "index_select", "repeat", "repeat_interleave", "reflection_pad2d"}


def rewritten(function: Any) -> tuple[torch.Tensor, torch.Tensor, set[str]]:
    """What a function of the image gives, what its rewritten form gives, and the operators of that."""
    network = applied(function)
    prepared = prepare(network, INPUT).network
    x = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    graph = capture_images(ImageInput(prepared, INPUT).eval(), INPUT).graph
    called = {str(node.target).split(".")[1] for node in graph.nodes if "aten." in str(node.target)}
    return network(x), prepared(x), called


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize("widths", [(1, 1, 1, 1), (0, 3, 2, 0), (8, 0, 0, 8), (-1, 2, 3, -2), (5,) * 4])
def test_every_mode_and_width(mode: str, widths: tuple[int, ...]) -> None:
    expected, answered, called = rewritten(lambda x: functional.pad(x, widths, mode=mode))
    assert torch.equal(expected, answered)
    assert not called & LEFT_OUT


@pytest.mark.parametrize("value", [0.0, 1.5, -3.0, 1e4])
@pytest.mark.parametrize("widths", [(1, 2), (1, 1, 1, 1), (0, 3, -2, 0), (-1, -1, -1, -1), (1, 0, 0, 2, 1, 1)])
def test_a_border_of_one_value(value: float, widths: tuple[int, ...]) -> None:
    expected, answered, _ = rewritten(lambda x: functional.pad(x, widths, value=value))
    assert torch.equal(expected, answered)


def test_a_border_below_everything_stays_one_operator() -> None:
    """It is what a maximum ignores, and no range can hold it."""
    function = lambda x: functional.max_pool2d(functional.pad(x, (1, 1, 1, 1), value=-torch.inf), 3)  # noqa: E731
    expected, answered, called = rewritten(function)
    assert torch.equal(expected, answered)
    assert "pad" in called


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.roll(x, (1, -2), (2, 3)),
        lambda x: torch.roll(x, 4, 1),
        lambda x: x.flip(3),
        lambda x: x.flip(-1, 1, 2),
        lambda x: x.fliplr(),
        lambda x: x.repeat(1, 1, 2, 3),
        lambda x: x.repeat_interleave(2, 3),
        lambda x: x[:, torch.tensor([2, 0, 1, 1])],
        lambda x: x[:, :, :, torch.tensor([-1, 0])],
        lambda x: x.index_select(2, torch.tensor([3, 4, 5, 0])),
        lambda x: functional.pad(x.flatten(2), (2, 1), mode="reflect"),
        lambda x: functional.pad(x[:, :, None], (1, 1, 1, 1, 0, 0), mode="replicate"),
        lambda x: torch._C._nn.reflection_pad2d(x, (1, 2, 3, 4)),
    ],
)
def test_what_picks_positions_known_in_advance(function: Any) -> None:
    expected, answered, called = rewritten(function)
    assert torch.equal(expected, answered)
    assert not called & LEFT_OUT


@pytest.mark.parametrize(
    "function",
    [lambda x: x.repeat_interleave(40, 3), lambda x: x[:, torch.tensor([[0, 1], [2, 0]])].flatten(1)],
)
def test_what_has_no_short_list_stays(function: Any) -> None:
    expected, answered, _ = rewritten(function)
    assert torch.equal(expected, answered)


def test_a_roll_of_all_values_is_that_of_one_image() -> None:
    """It would go from image to image where there are several, which a device never sees."""
    network = applied(lambda x: torch.roll(x, 1))
    prepared = prepare(network, INPUT).network
    x = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    assert torch.equal(prepared(x), torch.cat([network(x[:1]), network(x[1:])]))


def test_runs_and_how_many_are_joined_at_once() -> None:
    assert list(runs([1, 0, 1, 2, 2, 5, 6])) == [(1, 2), (0, 3), (2, 3), (5, 7)]
    x = torch.arange(40.0).reshape(1, 40)
    graph = torch.export.export(Pick(1, list(range(40))[::-1]), (x,)).graph
    joined = [len(node.args[0]) for node in graph.nodes if "cat" in str(node.target)]
    assert joined
    assert max(joined) <= MOST_JOINED
    assert torch.equal(Pick(1, list(range(40))[::-1])(x), x.flip(1))


def test_modes_of_convolutions() -> None:
    """By the module, where the padding is the convolution's."""
    names = [name for name in PADDINGS if name.startswith("convolution")]
    network = Chain(*(PADDINGS[name]() for name in names)).eval()
    size = Preprocess(height=24, width=24)
    x = torch.randn(2, 3, 24, 24)
    assert torch.allclose(prepare(network, size).network(x), network(x), atol=1e-6)
