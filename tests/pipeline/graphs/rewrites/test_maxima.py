"""Largest and smallest values, by operators that runtimes have."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from operator_chains import applied
from torch.nn import functional

from edge_apps.runtime.preprocess import Preprocess
from pipeline.graphs.prepare import prepare

INPUT = Preprocess(height=4, width=6)
REPLACED = {"aten.max.dim", "aten.min.dim", "aten.adaptive_max_pool2d.default", "aten.adaptive_max_pool1d.default"}

REWRITTEN: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "of the channels": lambda x: x.max(1, keepdim=True)[0] * x,
    "of the columns": lambda x: x.max(dim=2).values,
    "smallest": lambda x: x.min(-1)[0],
    "of all": lambda x: functional.adaptive_max_pool2d(x, 1),
    "of a row": lambda x: functional.adaptive_max_pool1d(x.flatten(2), 1),
    "by windows of a row": lambda x: functional.adaptive_max_pool1d(x.flatten(2), 6),
    "by windows": lambda x: functional.adaptive_max_pool2d(x, (2, 3)),
    "of rows": lambda x: functional.adaptive_max_pool2d(x, (None, 1)),
}
LEFT: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "positions": lambda x: x.max(1)[1].float(),
    "by unequal windows": lambda x: functional.adaptive_max_pool2d(x, (3, 4)),
}


@pytest.mark.parametrize("name", [*REWRITTEN, *LEFT])
def test_the_same_numbers(name: str) -> None:
    network = applied({**REWRITTEN, **LEFT}[name])
    prepared = prepare(network, INPUT).network
    x = torch.randn(2, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(prepared(x), network(x))
    assert bool(REPLACED & {str(node.target) for node in prepared.nodes}) == (name in LEFT)


@pytest.mark.parametrize("shape", [(-1, -1, 4, 6), (-1, 3, -1, 6)])
def test_a_broadcast_that_is_no_arithmetic_is_a_sum_with_next_to_nothing(shape: tuple[int, ...]) -> None:
    mean = (2, 3) if shape[2] > 0 else 3
    network = applied(lambda x: torch.cat([x.mean(mean, keepdim=True).expand(*shape)[:, :2], x], 1))
    prepared = prepare(network, INPUT).network
    x = torch.randn(2, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(prepared(x), network(x))
    assert "aten.expand.default" not in {str(node.target) for node in prepared.nodes}
