"""Float values that are moved on the way into int8 while float arithmetic reads them as well."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.fx import GraphModule

from calibration.moved import quantize_moved_values

conversions = torch.ops.quantized_decomposed
aten = torch.ops.aten

GRID = (0.02, 3, -128, 127, torch.int8)
OTHER = (0.05, 0, -128, 127, torch.int8)


def quantized(x: torch.Tensor, grid: tuple = GRID) -> torch.Tensor:
    return conversions.dequantize_per_tensor.default(conversions.quantize_per_tensor.default(x, *grid), *grid)


def once(x: torch.Tensor) -> torch.Tensor:
    return quantized(aten.slice.Tensor(aten.sin.default(x), 1, 1)) + 1


def twice(x: torch.Tensor) -> torch.Tensor:
    part = aten.slice.Tensor(aten.sin.default(x), 1, 1)
    return quantized(aten.slice.Tensor(part, 1, 1)).sum() + aten.cos.default(part)


def joined(x: torch.Tensor) -> torch.Tensor:
    both = aten.cat.default([aten.sin.default(x), aten.cos.default(x)], 1)
    return quantized(aten.permute.default(both, [1, 0])).sum() + aten.exp.default(aten.slice.Tensor(both, 1, 2))


def by_two_scales(x: torch.Tensor) -> torch.Tensor:
    part = aten.slice.Tensor(aten.sin.default(x), 1, 1)
    one, other = (aten.slice.Tensor(part, 1, end) for end in (1, 2))
    return quantized(one).sum() + quantized(other, OTHER).sum() + aten.cos.default(part)


def captured(function: Callable[[torch.Tensor], torch.Tensor]) -> GraphModule:
    class Applied(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return function(x)

    module = torch.export.export(Applied(), (torch.zeros(3, 6),)).module()
    assert isinstance(module, GraphModule)
    return module


@pytest.mark.parametrize(
    ("function", "added"),
    [(once, 0), (twice, 1), (joined, 2), (by_two_scales, 0)],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_they_are_quantized_where_they_are_moved_first(
    function: Callable[[torch.Tensor], torch.Tensor], added: int
) -> None:
    graph = captured(function)
    before = str(graph.graph).count("quantized_decomposed.quantize_per_tensor")
    quantize_moved_values(graph)
    assert str(graph.graph).count("quantized_decomposed.quantize_per_tensor") - before == added
    graph.graph.lint()


def test_what_is_computed_with_is_the_quantized_value() -> None:
    x = torch.linspace(-1, 1, 18).reshape(3, 6)
    graph = captured(twice)
    quantize_moved_values(graph)
    part = quantized(torch.sin(x)[:, 1:])
    torch.testing.assert_close(graph(x), quantized(part[:, 1:]).sum() + torch.cos(part))
    assert not torch.allclose(graph(x), twice(x), atol=1e-4)
