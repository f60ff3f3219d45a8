"""Layers taken back to float after calibration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from calibration.mixed import keep_float
from calibration.quantize import quantize
from calibration.ranges import Ranges
from calibration.recipe import Recipe
from calibration.simulate import Simulator
from calibration.tensor_keys import WEIGHTED, TensorKeys, module_path

Calibrate = Callable[..., Ranges]


class Fire(nn.Module):
    """Two branches that meet in a concatenation, and then in a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.squeeze = nn.Sequential(nn.Conv2d(3, 4, 1, 2), nn.ReLU())
        self.left = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU())
        self.right = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())
        self.after = nn.Conv2d(8, 8, 1)
        self.classifier = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.squeeze(x)
        joined = torch.cat([self.left(x), self.right(x)], 1)
        return self.classifier((joined + self.after(joined)).mean((2, 3)))


@pytest.fixture(scope="module")
def graph(captured: Callable[..., Any]) -> Any:
    torch.manual_seed(0)
    return captured(Fire())


@pytest.fixture(scope="module")
def ranges(graph: Any, pictures: torch.Tensor, ranges_of: Calibrate) -> Ranges:
    return ranges_of(graph, pictures.split(8), Recipe(observer="minmax"))


@pytest.mark.parametrize("layers", [("left.0",), ("after",), ("right.0", "squeeze.0"), ("classifier",)])
def test_what_stays_in_int8_keeps_its_scales(
    graph: Any, ranges: Ranges, pictures: torch.Tensor, layers: tuple[str, ...]
) -> None:
    """The layers are float in the graph, every range is there, and the answers are near the float network's."""
    mixed = keep_float(graph, ranges, layers)
    quantized, in_float = quantize(graph, mixed, fold_weights=True)
    assert set(in_float) == set(layers)
    weighted = {module_path(node): node.args[1].op for node in quantized.graph.nodes if node.target in WEIGHTED}
    assert {path for path, weight in weighted.items() if weight == "get_attr"} == set(layers)
    before, after = TensorKeys(graph, ranges.recipe), TensorKeys(graph, mixed.recipe)
    for node in graph.graph.nodes:
        if after.is_quantized(node):
            assert mixed.qparams(after.of(node)) == ranges.qparams(before.of(node))
            assert mixed.observers[after.of(node)] == ranges.observers[before.of(node)]
    with torch.no_grad():
        reference = graph(pictures)
        noise = Simulator(quantized)(pictures) - reference
    assert 0 < noise.norm() < 0.02 * reference.norm()


@pytest.mark.parametrize("layers", [("left.0",), ("left.0", "right.0")])
def test_a_concatenation_is_in_int8_while_a_part_of_it_is(
    graph: Any, ranges: Ranges, pictures: torch.Tensor, ranges_of: Calibrate, layers: tuple[str, ...]
) -> None:
    """A float part is quantized with the scale that all parts share; of float parts alone it is in float."""
    key = "cat:0" if "cat:0" in ranges.values else ":cat:0"
    mixed = keep_float(graph, ranges, layers)
    joined = next(node for node in graph.graph.nodes if "cat" in str(node.target))
    keys = TensorKeys(graph, mixed.recipe)
    assert keys.is_quantized(joined) is (len(layers) == 1)
    if len(layers) == 1:
        assert mixed.values[key] == ranges.values[key]
        assert {keys.of(source) for source in joined.all_input_nodes} == {key}
    # A calibration of its own finds the same tensors.
    own = ranges_of(graph, pictures.split(8), mixed.recipe)
    assert {found for found in own.values if found not in mixed.values} == set()
    quantized, in_float = quantize(graph, mixed, fold_weights=True)
    assert in_float == layers
    with torch.no_grad():
        reference = graph(pictures)
        noise = Simulator(quantized)(pictures) - reference
    assert noise.norm() < 0.02 * reference.norm()


def test_all_layers_and_none(graph: Any, ranges: Ranges, pictures: torch.Tensor) -> None:
    assert keep_float(graph, ranges, ()) == ranges
    every = ["squeeze.0", "left.0", "right.0", "after", "classifier"]
    quantized, in_float = quantize(graph, keep_float(graph, ranges, every), fold_weights=True)
    assert list(in_float) == every
    with torch.no_grad():
        assert torch.equal(quantized(pictures), graph(pictures))


def test_layers_of_the_recipe_stay_and_names_are_no_patterns(
    graph: Any, pictures: torch.Tensor, ranges_of: Calibrate
) -> None:
    recipe = Recipe(observer="minmax", float_layers=("clas*",))
    mixed = keep_float(graph, ranges_of(graph, pictures.split(8), recipe), ["left.0", "left.0"])
    assert mixed.recipe.float_layers == ("clas*", "left.0")
    assert keep_float(graph, mixed, ["a[0]"]).recipe.float_layers[-1] == "a[[]0]"
