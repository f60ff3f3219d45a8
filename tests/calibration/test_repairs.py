"""Repairs as a value and as a file."""

from __future__ import annotations

import pytest
import torch

from calibration.errors import BadCalibration
from calibration.repairs import Repairs

WEIGHT = torch.tensor([[1.0, -2.0], [0.5, 3e-8]])


def test_later_edits_win() -> None:
    one = Repairs({"a": torch.zeros(1), "b": torch.zeros(1)})
    both = one.then(Repairs({"b": torch.ones(1)}))
    assert {name: float(tensor) for name, tensor in both.tensors.items()} == {"a": 0, "b": 1}
    assert {name: float(tensor) for name, tensor in one.tensors.items()} == {"a": 0, "b": 0}


@pytest.mark.parametrize(
    "repairs", [Repairs({}), Repairs({"b.weight": WEIGHT, "a.weight": WEIGHT.T})], ids=["empty", "two"]
)
def test_a_file_is_read_as_it_was_written(repairs: Repairs) -> None:
    read = Repairs.from_bytes(repairs.to_bytes())
    assert read.tensors.keys() == repairs.tensors.keys()
    for name, tensor in repairs.tensors.items():
        assert torch.equal(read.tensors[name], tensor)
    assert read.sha256() == repairs.sha256()


def test_the_file_depends_on_what_is_edited_only() -> None:
    one = Repairs({"a": torch.zeros(2), "b": torch.ones(2)})
    other = Repairs({"b": torch.ones(2), "a": torch.zeros(2)})
    assert one.to_bytes() == other.to_bytes()
    assert one.sha256() != Repairs({"a": torch.zeros(2)}).sha256()


def damaged() -> dict[str, bytes]:
    whole = Repairs({"a": WEIGHT}).to_bytes()
    return {"nothing": b"", "text": b"no repairs", "cut": whole[:-4], "cut header": whole[:20]}


@pytest.mark.parametrize("name", damaged())
def test_what_is_no_repairs_file(name: str) -> None:
    with pytest.raises(BadCalibration, match="no repairs"):
        Repairs.from_bytes(damaged()[name])
