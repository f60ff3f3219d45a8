"""What an int8 graph computes in float."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from calibration.dataset.dataset import CalibrationSet
from calibration.float_operators import float_operators
from calibration.float_region import FloatRegion
from calibration.quantize import find_ranges, quantize
from calibration.ranges import Ranges
from calibration.recipe import Recipe
from edge_apps.chatter import hushed
from edge_apps.runtime.preprocess import Preprocess
from pipeline.graphs.front_ends import ImageInput, capture_images, graph_of, input_range

PREPROCESS = Preprocess(height=16, width=16)


def quantized(network: nn.Module, recipe: Recipe) -> Any:
    with hushed():
        graph = graph_of(capture_images(ImageInput(network.eval(), PREPROCESS).eval(), PREPROCESS))
        pixels = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 255
        found = find_ranges(graph, [pixels], recipe, input_range(PREPROCESS))
        ranges = Ranges(
            preprocess=PREPROCESS,
            checkpoint_sha256="",
            recipe=recipe,
            calibration_set=CalibrationSet(source="", how="", seed=0, images=()),
            values=found.values,
        )
        return quantize(graph, ranges, fold_weights=True)[0]


def chain(*middle: nn.Module) -> nn.Sequential:
    last = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), *middle, *last)


class Halved(nn.Module):
    """Times a number, which no runtime has in int8 exactly."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The same shape."""
        return x * 0.5


@pytest.mark.parametrize(
    ("middle", "expected"),
    [
        ((), ()),
        ((nn.Conv2d(8, 8, 1), nn.LeakyReLU(), nn.MaxPool2d(2)), ()),
        ((nn.Conv2d(8, 8, 1), nn.Tanh()), ("3:tanh",)),
        ((nn.Conv2d(8, 8, 1), Halved(), nn.Conv2d(8, 8, 1)), ("3:mul",)),
        ((nn.Conv2d(8, 8, 1), nn.GroupNorm(2, 8), nn.ReLU()), ("3:group_norm",)),
    ],
)
def test_operators_without_an_integer_kernel(middle: tuple[nn.Module, ...], expected: tuple[str, ...]) -> None:
    pooled = float_operators(quantized(nn.Sequential(*chain(*middle)), Recipe()))
    assert tuple(name for name in pooled if "pool" not in name) == expected


def test_a_layer_that_the_recipe_keeps_in_float() -> None:
    between = (nn.Conv2d(8, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 1))
    found = float_operators(quantized(chain(*between), Recipe(float_layers=("4",))))
    assert [name for name in found if "conv" in name] == ["4:conv2d"]


class Attention(nn.Module):
    """One head over the four positions of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.last = nn.Conv2d(3, 8, 8, 8), nn.LayerNorm(8), nn.Linear(8, 3)
        self.q, self.k = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[N, 3, 16, 16]`` to ``[N, 3]``."""
        x = self.norm(self.stem(x).flatten(2).transpose(1, 2))
        weights = torch.bmm(self.q(x), self.k(x).transpose(1, 2)).softmax(-1)
        return self.last(torch.bmm(weights, x).mean(1))


def test_attention_is_in_float_between_layers_in_int8() -> None:
    found = float_operators(quantized(Attention(), Recipe()))
    assert found == ("norm:layer_norm", ":bmm", ":softmax", ":mean")


class CutRegion(FloatRegion):
    """Computes with what a comparison says, which no delegate takes."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The same shape."""
        return x * (x.abs() > 0.1).to(x.dtype)


class WholeRegion(FloatRegion):
    """The same operators without the comparison."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The same shape."""
        return x * x.abs()


@pytest.mark.parametrize(("region", "count"), [(CutRegion(), 2), (WholeRegion(), 1)], ids=["cut", "whole"])
def test_operators_of_a_region_that_is_cut_dequantize_for_themselves(region: FloatRegion, count: int) -> None:
    graph = quantized(chain(region), Recipe()).graph
    readers = [node for node in graph.nodes if str(node.target) in ("aten.abs.default", "aten.mul.Tensor")]
    read = {node.all_input_nodes[0] for node in readers if "dequantize" in str(node.all_input_nodes[0].target)}
    assert len(read) == count
