"""Tensors that are stacked and taken apart, as slices and concatenations."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from operator_chains import applied

from edge_apps.runtime.preprocess import Preprocess
from pipeline.graphs.prepare import prepare

INPUT = Preprocess(height=4, width=6)

FUNCTIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "stacked": lambda x: torch.stack([x, x + 1], 1).sum(1),
    "stacked last": lambda x: torch.stack([x, x * 2, x], -1).mean(-1),
    "stacked first": lambda x: torch.stack([x, x + 1]).amax(0),
    "one tensor twice": lambda x: torch.stack([x, x], 2)[:, :, 0],
    "taken apart": lambda x: sum(x.unbind(1)),  # type: ignore[arg-type, return-value]
    "only one part": lambda x: x.unbind(-1)[2],
    "stacked and taken apart": lambda x: torch.mul(*torch.stack([x, x + 1], 1).unbind(1)),
    "along another axis": lambda x: torch.cat(torch.stack([x, x + 1], 1).unbind(2), 1),
    "halves": lambda x: torch.mul(*x[:, :2].reshape(-1, 2, 1, 4, 6).unbind(1)),
    "a part of five axes": lambda x: x.reshape(-1, 3, 2, 2, 6)[:, :, 1],
    "the last of five axes": lambda x: x.reshape(-1, 3, 2, 2, 6)[..., 3],
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_same_numbers_without_them(name: str) -> None:
    network = applied(FUNCTIONS[name])
    prepared = prepare(network, INPUT).network
    x = torch.randn(2, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(prepared(x), network(x))
    assert not {"aten.stack.default", "aten.unbind.int"} & {str(node.target) for node in prepared.nodes}
