"""One operator in int8 against the quantizer's own graph with everything else in float."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from torch import nn

from calibration.dataset.dataset import CalibrationSet
from calibration.mixed import keep_float
from calibration.quantize import find_ranges, quantize
from calibration.ranges import Range, Ranges
from calibration.recipe import Recipe
from calibration.tensor_keys import WEIGHTED, module_path
from edge_apps.runtime.preprocess import Preprocess
from pipeline.graphs.front_ends import ImageInput, capture_images, graph_of, input_range
from pipeline.metrics.sqnr import sqnr_db
from pipeline.quantization.one_by_one import OneByOne, one_by_one


def calibrated(network: nn.Module, preprocess: Preprocess, pictures: torch.Tensor, **recipe: Any) -> tuple[Any, Ranges]:
    graph = graph_of(capture_images(ImageInput(network, preprocess).eval(), preprocess))
    chosen = Recipe(observer="minmax", **recipe)
    ranges = Ranges(
        checkpoint_sha256="0" * 64,
        preprocess=preprocess,
        recipe=chosen,
        calibration_set=CalibrationSet(source="test", how="all", seed=0, images=()),
        values=find_ranges(graph, pictures.split(8), chosen, input_range(preprocess)).values,
    )
    return graph, ranges


def opened(graph: Any, ranges: Ranges) -> OneByOne:
    return OneByOne(graph, quantize(graph, ranges, fold_weights=True)[0], ranges)


@pytest.fixture(scope="module")
def chain(preprocess: Preprocess, pictures: torch.Tensor) -> tuple[Any, Ranges]:
    """Layers and nothing else that computes: each can be the only one in int8."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU6(), nn.MaxPool2d(2), nn.Conv2d(4, 8, 3, 2, 1, bias=False), nn.ReLU(True),
        nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.Flatten(), nn.Linear(128, 5),
    )  # fmt: skip
    return calibrated(network, preprocess, pictures)


@pytest.mark.parametrize("weights", ["per-channel", "per-tensor"])
def test_a_layer_alone_is_the_quantized_graph_with_all_others_in_float(
    chain: tuple[Any, Ranges], pictures: torch.Tensor, weights: Any
) -> None:
    graph, ranges = chain
    ranges = replace_recipe(ranges, weights=weights)
    walk = opened(graph, ranges)
    walk.see(pictures)
    paths = [operator.path for operator in walk.operators]
    assert paths == ["0", "3", "5", "7"]
    assert all(operator.is_layer for operator in walk.operators)
    with torch.no_grad():
        assert np.array_equal(walk.logits(), graph(pictures).numpy())
    for operator in walk.operators:
        others = [path for path in paths if path != operator.path]
        quantized, in_float = quantize(graph, keep_float(graph, ranges, others), fold_weights=True)
        assert list(in_float) == others
        with torch.no_grad():
            expected = quantized(pictures).numpy()
        assert np.abs(walk.logits_with(operator) - expected).max() < 1e-5 * np.abs(expected).max()
        assert not np.array_equal(expected, walk.logits())


def replace_recipe(ranges: Ranges, **changes: Any) -> Ranges:
    return replace(ranges, recipe=replace(ranges.recipe, **changes))


class Shortcut(nn.Module):
    """Everything in place, so that whoever computes again on the same tensors would see them changed."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, 2, 1)
        self.second = nn.Conv2d(4, 4, 3, 1, 1)
        self.classifier = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x).relu_()
        y = self.second(x)
        x += y
        return self.classifier(x.mean((2, 3)))


def test_operators_between_layers_and_tensors_that_are_written_to(
    preprocess: Preprocess, pictures: torch.Tensor
) -> None:
    torch.manual_seed(0)
    graph, ranges = calibrated(Shortcut(), preprocess, pictures)
    assert any(getattr(node.target, "_schema", None) and node.target._schema.is_mutable for node in graph.graph.nodes)
    walk = opened(graph, ranges)
    assert [(o.path, o.name, o.is_layer) for o in walk.operators] == [
        ("first", "conv2d", True),
        ("second", "conv2d", True),
        ("", "add", False),
        ("", "mean", False),
        ("classifier", "linear", True),
    ]
    walk.see(pictures)
    with torch.no_grad():
        assert np.array_equal(walk.logits(), graph(pictures).numpy())
    forwards = [walk.logits_with(operator) for operator in walk.operators]
    backwards = [walk.logits_with(operator) for operator in walk.operators[::-1]][::-1]
    assert all(np.array_equal(one, other) for one, other in zip(forwards, backwards, strict=True))

    # The sum by hand: both sides and the result on their grids, and the mean and the linear layer in float.
    network = Shortcut()
    network.load_state_dict({k.removeprefix("network."): v for k, v in graph.state_dict().items() if "network" in k})
    front = ImageInput(network, preprocess)
    with torch.no_grad():
        x = network.first(pictures * front.scale + front.offset).relu()
        y = network.second(x)
        total = on_grid(on_grid(x, ranges, "first:conv2d:0") + on_grid(y, ranges, "second:conv2d:0"), ranges, ":add_:0")
        by_hand = network.classifier(total.mean((2, 3))).numpy()
    assert np.abs(forwards[2] - by_hand).max() < 1e-5


def on_grid(values: torch.Tensor, ranges: Ranges, key: str) -> torch.Tensor:
    scale, zero_point = ranges.qparams(key)
    return ((values / scale).round().add(zero_point).clamp(-128, 127) - zero_point) * scale


def test_the_ranking_finds_the_layer_whose_range_is_wrong(chain: tuple[Any, Ranges], pictures: torch.Tensor) -> None:
    graph, ranges = chain
    pixels = pictures.permute(0, 2, 3, 1).numpy().astype(np.uint8)
    for path in ("0", "3", "5", "7"):
        key = next(key for key in ranges.values if key.startswith(f"{path}:"))
        wide = Range(*(60 * value for value in ranges.values[key]))
        spoilt = replace(ranges, values={**ranges.values, key: wide})
        alone = one_by_one(opened(graph, spoilt), pixels, lambda _: None)
        # The layer that writes the tensor, or the one that reads it and rounds its input likewise.
        worst = list(alone.ranking())[:2]
        assert path in worst
        assert alone.ranking()[worst[0]] < 25
        assert list(alone.ranking().values()) == sorted(alone.ranking().values())
        for logits, decibels in zip(alone.with_one, alone.decibels(), strict=True):
            signal = alone.floating - alone.floating.mean(0)
            noise = logits - logits.mean(0) - signal
            by_hand = 10 * np.log10((signal.astype(float) ** 2).sum() / (noise.astype(float) ** 2).sum())
            assert decibels == pytest.approx(by_hand, abs=0.01)


def test_layers_of_the_recipe_that_stay_in_float_are_left_out(chain: tuple[Any, Ranges]) -> None:
    graph, ranges = chain
    assert [o.path for o in opened(graph, keep_float(graph, ranges, ["3"])).operators] == ["0", "5", "7"]


def test_parameters_are_those_of_the_files(chain: tuple[Any, Ranges]) -> None:
    """Weights on 255 steps of each channel's scale, biases on multiples of input scale · weight scale."""
    graph, ranges = chain
    walk = opened(graph, ranges)
    layers = [node for node in graph.graph.nodes if node.target in WEIGHTED]
    for operator, node in zip(walk.operators, layers, strict=True):
        assert operator.node is node
        weight, *bias = operator.parameters.values()
        assert operator.weight_steps is not None
        original = dict(graph.named_parameters())[str(node.args[1].target)].detach().numpy()
        scale = np.abs(original).reshape(len(original), -1).max(1).astype(np.float32) / np.float32(127)
        steps = operator.weight_steps.reshape(len(original), -1)
        assert np.allclose(weight.numpy().reshape(len(original), -1), steps * scale[:, None], rtol=1e-6)
        assert np.abs(steps).max() == 127
        assert np.abs(weight.numpy() - original).max() <= scale.max() / 2 * 1.0001
        (input_qparams,) = operator.inputs.values()
        for values in bias:
            multiples = values.double().numpy() / (input_qparams.scale * scale.astype(float))
            assert np.abs(multiples - multiples.round()).max() < 0.01
        assert module_path(node) == operator.path


def test_sqnr_of_nothing_is_infinite(chain: tuple[Any, Ranges], pictures: torch.Tensor) -> None:
    graph, ranges = chain
    walk = opened(graph, ranges)
    walk.see(pictures)
    assert sqnr_db(walk.logits(), walk.logits()) == float("inf")
