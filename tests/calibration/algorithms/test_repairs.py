"""Repairs as a value and as a file."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from safetensors.torch import save
from torch import nn

from calibration.algorithms.layers import tensor_of
from calibration.algorithms.repairs import Repairs, with_values
from calibration.errors import BadCalibration

WEIGHT = torch.tensor([[1.0, -2.0], [0.5, 3e-8]])


def test_later_edits_win() -> None:
    one = Repairs({"a": torch.zeros(1), "b": torch.zeros(1)})
    both = one.then(Repairs({"b": torch.ones(1)}))
    assert {name: float(tensor) for name, tensor in both.tensors.items()} == {"a": 0, "b": 1}
    assert {name: float(tensor) for name, tensor in one.tensors.items()} == {"a": 0, "b": 0}


@pytest.mark.parametrize(
    "repairs",
    [Repairs(), Repairs({"b.weight": WEIGHT, "a.weight": WEIGHT.T}, {"b.weight": -WEIGHT, "a.bias": WEIGHT[0]})],
    ids=["empty", "both"],
)
def test_a_file_is_read_as_it_was_written(repairs: Repairs) -> None:
    read = Repairs.from_bytes(repairs.to_bytes())
    for kept, given in ((read.scaled, repairs.scaled), (read.rounded, repairs.rounded)):
        assert kept.keys() == given.keys()
        for name, tensor in given.items():
            assert torch.equal(kept[name], tensor)
    assert read.sha256() == repairs.sha256()


def test_the_file_depends_on_what_is_edited_only() -> None:
    one = Repairs({"a": torch.zeros(2), "b": torch.ones(2)})
    other = Repairs({"b": torch.ones(2), "a": torch.zeros(2)})
    assert one.to_bytes() == other.to_bytes()
    assert one.sha256() != Repairs({"a": torch.zeros(2)}).sha256()


def test_what_is_rounded_lies_over_what_was_scaled() -> None:
    both = Repairs({"a": torch.zeros(1), "b": torch.zeros(1)}, {"b": torch.ones(1), "c": torch.ones(1)})
    assert {name: float(tensor) for name, tensor in both.tensors.items()} == {"a": 0, "b": 1, "c": 1}


def test_values_are_exchanged_in_one_graph_only(
    small: nn.Module, captured: Callable[..., Any], pictures: torch.Tensor
) -> None:
    graph = captured(small)
    name = "classifier.1.bias"
    before, other = tensor_of(graph, name).clone(), copy.deepcopy(graph)
    changed = with_values(other, {name: before + 1})
    with torch.no_grad():
        torch.testing.assert_close(changed(pictures), graph(pictures) + 1)
    assert torch.equal(tensor_of(graph, name), before)
    assert torch.equal(small.state_dict()[name], before)
    for wrong in ({"classifier.9.bias": before}, {name: before[:1]}):
        with pytest.raises(BadCalibration, match="which this network does not have so"):
            with_values(graph, wrong)


def damaged() -> dict[str, bytes]:
    whole = Repairs({"a": WEIGHT}).to_bytes()
    return {
        "nothing": b"",
        "text": b"no repairs",
        "cut": whole[:-4],
        "cut header": whole[:20],
        "other": save({"a": WEIGHT}),
    }


@pytest.mark.parametrize("name", damaged())
def test_what_is_no_repairs_file(name: str) -> None:
    with pytest.raises(BadCalibration, match="no repairs"):
        Repairs.from_bytes(damaged()[name])
