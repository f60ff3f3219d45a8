"""The memory of a network's values, against a count by hand; and programs that would fill a machine."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from torch import nn

from pipeline.checkpoints.load import load
from pipeline.errors import BadCheckpoint
from pipeline.graphs.flat import FlatNetwork
from pipeline.graphs.memory import peak_bytes


def exported(network: nn.Module) -> torch.export.ExportedProgram:
    return torch.export.export(network.eval(), (torch.zeros(1, 3, 8, 8),), strict=False)


def test_the_peak_of_a_chain_and_of_a_branch() -> None:
    """Float32 of [1, 3, 8, 8] are 768 bytes, of [1, 4, 6, 6] 576: the branch keeps two of these while it adds."""

    class Branch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.conv(x)
            return x + torch.relu(x)

    chain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    assert peak_bytes(FlatNetwork(exported(chain)), (1, 3, 8, 8)) == 768 + 576
    assert peak_bytes(FlatNetwork(exported(Branch())), (1, 3, 8, 8)) == 3 * 576


class Full(nn.Module):
    """A graph of a few bytes and values of 40 GB."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[N, 3, 8, 8]`` to ``[N, 3]``."""
        return x.mean((2, 3)) + torch.zeros(10**10).sum()


class Square(nn.Module):
    """Every pixel beside every other, a thousand times."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[N, 3, 8, 8]`` to ``[N, 3]``."""
        return x.mean((2, 3)) * x.repeat(1, 1, 4000, 4000).amax((2, 3))


@pytest.mark.parametrize("network", [Full(), Square()])
def test_a_program_that_would_fill_the_memory_is_refused_before_it_runs(tmp_path: Path, network: nn.Module) -> None:
    stream = io.BytesIO()
    torch.export.save(exported(network), stream)
    path = tmp_path / "net.pt2"
    path.write_bytes(stream.getvalue())
    with pytest.raises(BadCheckpoint, match=r"net\.pt2' takes [\d,]+ MB for the values .* at most 400 MB are allowed"):
        load(path, labels=("a", "b", "c"))
