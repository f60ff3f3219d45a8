"""A network in float16 has nothing of float32 left in it, and no number that float16 does not have."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from edge_apps.runtime.preprocess import Preprocess
from pipeline.graphs.half import LARGEST, half
from pipeline.graphs.prepare import prepare

SIDE = 8
INPUT = Preprocess(height=SIDE, width=SIDE)

FUNCTIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "softmax in float32": lambda x: x.softmax(1, dtype=torch.float32).to(x.dtype),
    "a cast to float32": lambda x: (x.float() + 1).type_as(x),
    "a tensor that the forward makes": lambda x: x @ torch.ones(6, 6) + torch.zeros(x.shape[0], 4, 6, 6),
    "a large negative number": lambda x: x.masked_fill(x < 0, -1e9).softmax(1),
    "a large negative constant": lambda x: (x + torch.full((6, 6), -1e9).triu(1)).softmax(-1),
    "a sum in float32": lambda x: x.sum(1, keepdim=True, dtype=torch.float32) + x,
}


class Called(nn.Module):
    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.stem, self.function, self.head = nn.Conv2d(3, 4, 3), function, nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.function(self.stem(x)).mean((2, 3)))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_everything_is_float16(name: str) -> None:
    torch.manual_seed(0)
    network = Called(FUNCTIONS[name]).eval()
    small = half(prepare(network, INPUT).network)
    x = torch.randn(2, 3, SIDE, SIDE)
    with torch.no_grad():
        answered, expected = small(x.half()), network(x)
        program = torch.export.export(small, (x.half(),), strict=False)
    assert answered.dtype == torch.float16
    assert float((answered - expected).abs().max()) < 1e-2 * float(expected.abs().max())
    values = [node.meta["val"] for node in program.graph.nodes if isinstance(node.meta.get("val"), torch.Tensor)]
    assert not [value for value in values if value.dtype == torch.float32]


def test_the_network_itself_is_left_alone() -> None:
    network = prepare(Called(FUNCTIONS["a large negative constant"]).eval(), INPUT).network
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    small = half(network)
    assert min(float(tensor.min()) for tensor in small.state_dict().values()) >= -LARGEST
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
