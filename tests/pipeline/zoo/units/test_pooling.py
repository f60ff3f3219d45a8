"""Pooling written as convolution, against torch's own."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from pipeline.zoo.units.pooling import AveragePool, GridPool


def adaptive_bins(side: int, grid: int) -> list[tuple[int, int]]:
    """Where ``nn.AdaptiveAvgPool2d`` documents its bins: ⌊i·side/grid⌋ to ⌈(i+1)·side/grid⌉."""
    return [(i * side // grid, -(-(i + 1) * side // grid)) for i in range(grid)]


def is_regular(side: int, grid: int) -> bool:
    bins = adaptive_bins(side, grid)
    steps = {after[0] - before[0] for before, after in pairwise(bins)}
    return len(steps) <= 1 and len({end - start for start, end in bins}) == 1


@pytest.mark.parametrize(
    "windows",
    [(2, 2, 0), (3, 2, 1), (3, 1, 1), (5, 3, 0), ((2, 5), (1, 3), (0, 2)), ((3, 1), 2), (3, (1, 2), (1, 0))],
    ids=str,
)
@pytest.mark.parametrize("divisor", [None, 7])
def test_average_pool_is_torchs(windows: tuple[Any, ...], divisor: int | None) -> None:
    x = torch.randn(2, 5, 9, 12)
    expected = nn.AvgPool2d(*windows, divisor_override=divisor)(x)
    pool = AveragePool(5, *windows, divisor=divisor)
    assert torch.allclose(pool(x), expected, atol=1e-6)
    assert not pool.state_dict()


def test_a_map_of_the_grids_size_is_left_as_it_is() -> None:
    x = torch.randn(1, 3, 6, 6)
    assert GridPool(6)(x) is x


@pytest.mark.parametrize("grid", [1, 2, 3, 4, 6, 7])
def test_the_grid_is_adaptive_pooling_wherever_that_has_regular_bins(grid: int) -> None:
    regular = [side for side in range(grid, 40) if is_regular(side, grid)]
    assert {grid, grid + 1, 2 * grid, 2 * grid + 1, 3 * grid} <= set(regular)
    for height, width in zip(regular, reversed(regular), strict=True):
        x = torch.randn(1, 2, height, width)
        assert torch.allclose(GridPool(grid)(x), nn.AdaptiveAvgPool2d(grid)(x), atol=1e-6), (height, width)


@pytest.mark.parametrize("grid", [2, 3, 6, 7])
def test_elsewhere_windows_of_one_size_cover_the_map_from_edge_to_edge(grid: int) -> None:
    """Each position is the average of a rectangle; together they touch every pixel, and no position is outside."""
    for side in (s for s in range(grid, 40) if not is_regular(s, grid)):
        stride = side // grid
        kernel = side - (grid - 1) * stride
        x = torch.randn(1, 2, side, grid, requires_grad=True)
        y = GridPool(grid)(x)
        assert y.shape == (1, 2, grid, grid)
        rows = [x[:, :, i * stride : i * stride + kernel].mean(2) for i in range(grid)]
        assert torch.allclose(y, torch.stack(rows, 2), atol=1e-6)
        (seen,) = torch.autograd.grad(y.sum(), x)
        assert (seen > 0).all()


def test_the_heads_of_googlenet_are_5_by_5_with_stride_3() -> None:
    x = torch.randn(2, 4, 14, 14)
    assert torch.allclose(GridPool(4)(x), nn.AvgPool2d(5, 3)(x), atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_number_formats(dtype: torch.dtype) -> None:
    x = torch.randn(1, 3, 14, 7).to(dtype)
    y = GridPool(7)(x)
    assert y.dtype == dtype
    assert torch.allclose(y.double(), nn.AdaptiveAvgPool2d(7)(x.double()), atol=0.02)


def test_it_holds_nothing_and_runs_where_nothing_is_allocated() -> None:
    assert not GridPool(6).state_dict()
    assert GridPool(6)(torch.empty(1, 256, 13, 9, device="meta")).shape == (1, 256, 6, 6)


def test_the_captured_window_is_a_constant() -> None:
    """One convolution with a lifted tensor as its weights, in float32 and float16: nothing that makes or casts it."""
    for dtype in (torch.float32, torch.float16):
        program = torch.export.export(GridPool(2), (torch.zeros(1, 3, 5, 4, dtype=dtype),), strict=False)
        calls = [node for node in program.graph.nodes if node.op == "call_function"]
        assert [call.target for call in calls] == [torch.ops.aten.conv2d.default]
        assert calls[0].args[1].name in program.graph_signature.inputs_to_lifted_tensor_constants
        assert [tuple(tensor.shape) for tensor in program.constants.values()] == [(3, 1, 3, 2)]
