"""Sums and lengths over axes as means, which delegates take."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from operator_chains import applied
from torch.nn import functional

from edge_apps.runtime.preprocess import Preprocess
from pipeline.graphs.prepare import prepare

INPUT = Preprocess(height=4, width=6)

REWRITTEN: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "over a plane": lambda x: x.sum((2, 3)),
    "over channels": lambda x: x.sum(1, keepdim=True),
    "over all of an image": lambda x: x.sum((1, 2, -1), keepdim=True),
    "over an axis of five": lambda x: torch.stack([x, x * 2], 1).sum(1),
    "length of the channels": lambda x: torch.linalg.vector_norm(x, dim=1),
    "length of the columns": lambda x: functional.normalize(x, dim=2),
    "length by norm": lambda x: x.norm(dim=(2, 3), keepdim=True) * x,
}
LEFT: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "over the stacked images": lambda x: torch.stack([x, x * 2]).sum(0),
    "another length": lambda x: torch.linalg.vector_norm(x, 3, dim=1),
}
SUMS = {"aten.sum.dim_IntList", "aten.linalg_vector_norm.default"}


@pytest.mark.parametrize("name", [*REWRITTEN, *LEFT])
def test_the_same_numbers(name: str) -> None:
    network = applied({**REWRITTEN, **LEFT}[name])
    prepared = prepare(network, INPUT).network
    x = torch.randn(2, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(prepared(x), network.double()(x.double()).float(), rtol=1e-5, atol=1e-6)
    assert bool(SUMS & {str(node.target) for node in prepared.nodes}) == (name in LEFT)
