"""Subtractions from a number, in the graph that LiteRT's converter is given."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from pipeline.targets.litert_rewrites.subtractions import plain_subtractions

aten = torch.ops.aten


@pytest.mark.parametrize("times", [1, 2.5])
def test_a_subtraction_from_a_number(times: float) -> None:
    class Rest(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.rsub(x, 3, alpha=times)

    x = torch.linspace(-2, 5, 12).reshape(3, 4)
    graph: Any = torch.export.export(Rest(), (x,)).module()
    assert any(node.target == aten.rsub.Scalar for node in graph.graph.nodes)
    plain_subtractions(graph)
    assert not any(node.target == aten.rsub.Scalar for node in graph.graph.nodes)
    torch.testing.assert_close(graph(x), 3 - times * x)
