"""What LiteRT's converter gets wrong, avoided in the graph that it is given."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from operator_chains import OPERATORS, PREPROCESS, Chain, images
from torch import nn

from calibration.dataset.dataset import CalibrationSet
from calibration.quantize import find_ranges, quantize
from calibration.ranges import Ranges
from calibration.recipe import Recipe
from edge_apps.chatter import hushed
from pipeline.graphs.front_ends import ImageInput, capture_images, graph_of, input_range
from pipeline.graphs.prepare import prepare
from pipeline.graphs.rewrites.expansions import NOTHING
from pipeline.targets.litert_rewrites.kept_in_float import keep_in_float

aten = torch.ops.aten

ADDED = {
    "softmax": 1, "log-softmax": 1, "maximum": 3, "minimum": 3, "bilinear": 2,
    "convolution": 0, "tanh": 0, "mish": 0, "one minus": 0, "flip": 0, "maximum pooling": 0,
}  # fmt: skip


def int8_graph(network: nn.Module) -> Any:
    prepared = prepare(network, PREPROCESS).network
    graph = graph_of(capture_images(ImageInput(prepared, PREPROCESS).eval(), PREPROCESS))
    with hushed():
        values = find_ranges(graph, [images()], Recipe(), input_range(PREPROCESS)).values
        drawn = CalibrationSet(source="", how="", seed=0, images=())
        ranges = Ranges(
            preprocess=PREPROCESS, checkpoint_sha256="", recipe=Recipe(), calibration_set=drawn, values=values
        )
        return quantize(graph, ranges, fold_weights=False)[0]


@pytest.mark.parametrize("name", ADDED)
def test_a_number_that_changes_nothing_where_the_converter_would_take_int8(name: str) -> None:
    torch.manual_seed(0)
    graph = int8_graph(Chain(OPERATORS[name]()).eval().requires_grad_(False))
    before = graph(images(4))
    keep_in_float(graph)
    numbers = [node for node in graph.graph.nodes if node.target == aten.add.Tensor and node.args[1] == NOTHING]
    assert len(numbers) == ADDED[name]
    assert torch.equal(graph(images(4)), before)
