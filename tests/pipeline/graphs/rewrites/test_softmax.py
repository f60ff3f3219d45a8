"""Softmax over any axis, in the one form that delegates take."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edge_apps.runtime.preprocess import Preprocess
from pipeline.graphs.front_ends import ImageInput, capture_images
from pipeline.graphs.prepare import prepare

INPUT = Preprocess(height=6, width=8)


class Over(nn.Module):
    """Softmax over one axis of a view of the image."""

    def __init__(self, shape: tuple[int, ...], axis: int) -> None:
        super().__init__()
        self.shape, self.axis = shape, axis

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(-1, *self.shape).softmax(self.axis).flatten(1)


SHAPES = [((3, 6, 8), 1), ((3, 6, 8), 2), ((3, 6, 8), -1), ((3, 48), 1), ((3, 48), 2), ((3, 2, 3, 8), 2), ((144,), 1)]


@pytest.mark.parametrize(("shape", "axis"), SHAPES)
def test_the_same_numbers_over_the_last_axis_of_at_most_three(shape: tuple[int, ...], axis: int) -> None:
    network = Over(shape, axis)
    prepared = prepare(network, INPUT).network
    x = torch.randn(2, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(prepared(x), network(x), rtol=1e-6, atol=1e-7)
    graph = capture_images(ImageInput(prepared, INPUT).eval(), INPUT).graph
    (found,) = [node for node in graph.nodes if node.target == torch.ops.aten.softmax.int]
    rank = found.meta["val"].dim()
    assert rank <= 3
    assert found.args[1] % rank == rank - 1
