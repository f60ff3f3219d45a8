"""Writes into parts of a tensor become the tensor that comes of them, for all who read it afterwards."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from operator_chains import Call
from torch import nn
from torch.nn import functional

from edge_apps.runtime.preprocess import Preprocess
from pipeline.graphs.flat import writes
from pipeline.graphs.front_ends import ImageInput, capture_images
from pipeline.graphs.prepare import prepare

SIDE = 8
INPUT = Preprocess(height=SIDE, width=SIDE)


def assigned(x: torch.Tensor) -> torch.Tensor:
    y = x.clone()
    y[:, :, 1:] = x[:, :, :-1]
    return y


def in_steps(x: torch.Tensor) -> torch.Tensor:
    y = torch.zeros_like(x)
    y[:, 1:, ::2, 1::3] = x[:, :2, 1::2, ::3]
    return y


def one_channel(x: torch.Tensor) -> torch.Tensor:
    y = x.clone()
    y[:, 0] = 0
    y[:, 1, 2] += 1
    y[:, -1, :, 0] = x[:, 0, 3] * 2
    return y


def by_another_view(x: torch.Tensor) -> torch.Tensor:
    """A view taken before the write is read after it."""
    y = x * 2
    rows, columns = y[:, :, 2:5], y[..., :3]
    rows.add_(1)
    functional.relu_(columns)
    return torch.cat([rows, y, columns.repeat(1, 1, 1, 3)[..., :SIDE]], 2)


def turned(x: torch.Tensor) -> torch.Tensor:
    y = x * 1.5
    y.transpose(2, 3)[:, :, 1:3].mul_(2)
    y.permute(0, 2, 3, 1)[..., 1] = 3.0
    y.flatten(2)[:, :, 5:9].zero_()
    return y


def broadcast(x: torch.Tensor) -> torch.Tensor:
    y = x.clone()
    y[:, :, 1:3] = x[:, :1, :1]
    y[:, 1:2] = torch.arange(8.0)
    return y


def filled_before(x: torch.Tensor) -> torch.Tensor:
    y = torch.empty_like(x)
    y[:, :2] = x[:, 1:]
    y[:, 2:].copy_(x[:, :1])
    return y + torch.ones_like(y) + torch.full_like(y, 0.25)


def result_of_the_write(x: torch.Tensor) -> torch.Tensor:
    y = x.clone()
    part = y[:, :1].relu_()
    return torch.cat([part, y], 1)


WRITTEN: list[Callable[[torch.Tensor], torch.Tensor]] = [
    assigned, in_steps, one_channel, by_another_view, turned, broadcast, filled_before, result_of_the_write,
]  # fmt: skip


@pytest.mark.parametrize("function", WRITTEN)
def test_a_write_is_a_new_tensor(function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    network = nn.Sequential(Call(function), nn.Flatten()).eval()
    prepared = prepare(network, INPUT).network
    x = torch.randn(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    assert torch.equal(prepared(x), network(x))
    nodes = capture_images(ImageInput(prepared, INPUT).eval(), INPUT).graph.nodes
    assert not any(writes(node) for node in nodes)
    called = {str(node.target).split(".")[1] for node in nodes if "aten." in str(node.target)}
    assert not called & {"copy", "slice_scatter", "select_scatter", "select", "zeros_like", "empty_like", "alias"}


VIEWS: list[Callable[[torch.Tensor], torch.Tensor]] = [
    lambda x: x[:, 1],
    lambda x: x[:, :, -1, 3],
    lambda x: x[:, None, :, :, None].flatten(2),
    lambda x: x[:, :, ::2, 1::2],
    lambda x: x[:, ::2, 1::3, ::5],
    lambda x: x[:, :, 3:7:4],
    lambda x: torch.cat([x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]], 1),
    lambda x: x[:, :, :] + x[:],
]


@pytest.mark.parametrize("function", VIEWS)
def test_a_view_is_slices_and_reshapes(function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    network = nn.Sequential(Call(function), nn.Flatten()).eval()
    prepared = prepare(network, INPUT).network
    x = torch.randn(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    assert torch.equal(prepared(x), network(x))
    nodes = capture_images(ImageInput(prepared, INPUT).eval(), INPUT).graph.nodes
    assert not any("select" in str(node.target) or "alias" in str(node.target) for node in nodes)
    assert all(len(node.args) < 5 for node in nodes if "slice" in str(node.target))  # the fifth is a step
