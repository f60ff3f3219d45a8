"""Annotation and conversion, on a small network that holds every kind of operator."""

import re
from collections import Counter
from collections.abc import Callable
from operator import attrgetter
from typing import Any, get_args

import pytest
import torch
from torch import nn
from torch.fx import Node

from calibration.errors import BadCalibration, BadRecipe
from calibration.quantize import Watch, find_ranges, quantize
from calibration.ranges import INPUT, Range, Ranges
from calibration.recipe import Observer, Recipe
from calibration.tensor_keys import TensorKeys, in_network
from edge_apps.runtime.preprocess import Preprocess
from pipeline.graphs.front_ends import (
    BytesInput,
    ClassifierInput,
    ImageInput,
    capture_bytes,
    capture_image,
    capture_images,
    graph_of,
    input_range,
)

KEYS = {
    INPUT,
    "features.0.0:conv2d:0",
    "features.1.conv.0.0:conv2d:0",
    "features.1.conv.1.0:conv2d:0",
    "features.1.conv.2:conv2d:0",
    "features.1:add:0",
    "features.2.0:conv2d:0",
    "pool:mean:0",
    "classifier.1:linear:0",
}


Calibrated = Callable[[nn.Module, Recipe], Ranges]


@pytest.fixture(scope="session")
def calibrated(captured: Callable[..., Any], ranges_of: Callable[..., Ranges], pictures: torch.Tensor) -> Calibrated:
    """On the pictures."""
    return lambda network, recipe: ranges_of(captured(network), pictures.split(8), recipe)


@pytest.fixture(scope="module")
def ranges(small: nn.Module, calibrated: Calibrated) -> Ranges:
    return calibrated(small, Recipe(observer="minmax"))


def fixed_scales(graph: Any) -> Counter[tuple[float, int]]:
    quantizers = (n for n in graph.graph.nodes if "quantize_per_tensor.default" in str(n.target))
    return Counter((n.args[1], n.args[2]) for n in quantizers if "dequantize" not in str(n.target))


def test_every_tensor_of_the_network_has_one_range(ranges: Ranges) -> None:
    assert set(ranges.values) == KEYS


def test_minmax_ranges_are_those_of_the_tensors(
    small_as_written: nn.Module, preprocess: Preprocess, pictures: torch.Tensor, ranges: Ranges
) -> None:
    seen: dict[str, torch.Tensor] = {}
    hooks = [
        small_as_written.get_submodule(path).register_forward_hook(
            lambda _m, _i, out, path=path: seen.update({path: out})
        )
        for path in ("features.0", "features.1", "features.1.conv.3", "pool", "classifier")
    ]
    with torch.no_grad():
        ImageInput(small_as_written, preprocess)(pictures)
    for hook in hooks:
        hook.remove()
    for path, key in {
        "features.0": "features.0.0:conv2d:0",  # after the fused ReLU6
        "features.1": "features.1:add:0",
        "features.1.conv.3": "features.1.conv.2:conv2d:0",  # the batch norm after it is folded
        "pool": "pool:mean:0",
        "classifier": "classifier.1:linear:0",
    }.items():
        assert ranges.values[key].low == pytest.approx(min(0.0, float(seen[path].min())), abs=1e-5)
        assert ranges.values[key].high == pytest.approx(max(0.0, float(seen[path].max())), abs=1e-5)


def test_the_observer_of_every_tensor_is_recorded(
    small: nn.Module, preprocess: Preprocess, pictures: torch.Tensor, ranges: Ranges
) -> None:
    graph = graph_of(capture_images(ImageInput(small, preprocess).eval(), preprocess))
    patterns = {"classifier.*": "minmax", "features.1*": "percentile", "*.conv.2:*": "entropy"}
    recipe = Recipe(observer="moving-average", observers=patterns)  # type: ignore[arg-type]
    found = find_ranges(graph, pictures.split(8), recipe, input_range(preprocess))
    assert found.observers == {
        INPUT: "fixed",
        "features.0.0:conv2d:0": "moving-average",
        "features.1.conv.0.0:conv2d:0": "percentile",
        "features.1.conv.1.0:conv2d:0": "percentile",
        "features.1.conv.2:conv2d:0": "percentile",  # the first pattern that matches
        "features.1:add:0": "percentile",
        "features.2.0:conv2d:0": "moving-average",
        "pool:mean:0": "moving-average",
        "classifier.1:linear:0": "minmax",
    }
    assert found.values["classifier.1:linear:0"] == ranges.values["classifier.1:linear:0"]
    assert found.values["pool:mean:0"] != ranges.values["pool:mean:0"]


@pytest.mark.parametrize("pattern", ["backbone.*", "features.1", "input"])
def test_a_pattern_that_matches_no_tensor_is_refused(small: nn.Module, preprocess: Preprocess, pattern: str) -> None:
    graph = graph_of(capture_images(ImageInput(small, preprocess).eval(), preprocess))
    message = (
        rf"observers pattern '{re.escape(pattern)}' matches no tensor. Tensors: classifier.1:linear:0, .*pool:mean:0"
    )
    with pytest.raises(BadRecipe, match=message):
        Watch(graph, [Recipe(observers={pattern: "mse"})], input_range(preprocess))


def test_one_pass_for_all_observers_finds_what_a_pass_for_each_finds(
    small: nn.Module, preprocess: Preprocess, pictures: torch.Tensor
) -> None:
    graph = graph_of(capture_images(ImageInput(small, preprocess).eval(), preprocess))
    recipes = [Recipe(observer=name) for name in get_args(Observer)]
    watch = Watch(graph, recipes, input_range(preprocess))
    batches = pictures.split(8)
    for batch in batches[:2]:
        watch.see(batch)
    early = watch.found(1)
    for batch in batches[2:]:
        watch.see(batch)
    assert early == find_ranges(graph, batches[:2], recipes[1], input_range(preprocess))
    found = [watch.found(i) for i in range(len(recipes))]
    assert found == [find_ranges(graph, batches, recipe, input_range(preprocess)) for recipe in recipes]
    assert len({one.values["features.2.0:conv2d:0"] for one in found}) == len(recipes)


def test_input_range_follows_from_the_preprocessing(preprocess: Preprocess, ranges: Ranges) -> None:
    assert ranges.values[INPUT] == Range(-0.485 / 0.229, (1 - 0.406) / 0.225)
    assert input_range(preprocess) == ranges.values[INPUT]


def test_all_front_ends_get_equal_scales(small: nn.Module, preprocess: Preprocess, ranges: Ranges) -> None:
    captures = [
        capture_bytes(BytesInput(small, preprocess).eval(), preprocess),
        capture_image(ImageInput(small, preprocess).eval(), preprocess),
        capture_image(ClassifierInput(small, preprocess).eval(), preprocess),
    ]
    scales = [
        set(fixed_scales(quantize(graph_of(program), ranges, fold_weights=fold)[0]))
        for program in captures
        for fold in (True, False)
    ]
    assert scales[0] == {tuple(ranges.qparams(key)) for key in KEYS}
    assert all(other == scales[0] for other in scales)


def test_the_front_end_normalises_in_float(small: nn.Module, preprocess: Preprocess, ranges: Ranges) -> None:
    """The first quantized tensor is the normalised picture: its multiply and add must not be rounded."""
    program = capture_bytes(BytesInput(small, preprocess).eval(), preprocess)
    graph, _ = quantize(graph_of(program), ranges, fold_weights=True)
    front = [n for n in graph.graph.nodes if n.op == "call_function" and not in_network(n)]
    first = next(i for i, n in enumerate(front) if "quantize_per_tensor" in str(n.target))
    assert {"aten.mul.Tensor", "aten.add.Tensor"} <= {str(n.target) for n in front[:first]}


def test_int8_graph_is_near_the_float_network(
    small: nn.Module, preprocess: Preprocess, pictures: torch.Tensor, ranges: Ranges
) -> None:
    front = ImageInput(small, preprocess).eval()
    graph, floats = quantize(graph_of(capture_images(front, preprocess)), ranges, fold_weights=True)
    with torch.no_grad():
        expected, answered = front(pictures), graph(pictures)
    assert floats == ()
    assert float((expected - answered).norm() / expected.norm()) < 0.05
    assert not torch.equal(expected, answered)


def test_every_layer_computes_in_int8(small: nn.Module, preprocess: Preprocess, ranges: Ranges) -> None:
    graph, _ = quantize(
        graph_of(capture_image(ImageInput(small, preprocess).eval(), preprocess)), ranges, fold_weights=True
    )
    layers = [n for n in graph.graph.nodes if str(n.target) in ("aten.conv2d.default", "aten.linear.default")]
    assert len(layers) == 6
    for layer in layers:
        assert all("dequantize" in str(layer.args[i].target) for i in (0, 1))


def test_weights_are_symmetric_per_channel_and_cover_the_weight(
    small: nn.Module, preprocess: Preprocess, ranges: Ranges
) -> None:
    graph, _ = quantize(
        graph_of(capture_image(ImageInput(small, preprocess).eval(), preprocess)), ranges, fold_weights=True
    )
    layer = next(n for n in graph.graph.nodes if str(n.target) == "aten.conv2d.default")
    scale = getattr(graph, layer.args[1].args[1].target)
    weight = small.get_submodule("features.0.0").weight
    assert torch.allclose(scale.float(), weight.abs().amax((1, 2, 3)) / 127, rtol=1e-5)


def test_float_layers_stay_float_and_are_reported(
    small: nn.Module, preprocess: Preprocess, calibrated: Calibrated
) -> None:
    kept = calibrated(small, Recipe(observer="minmax", float_layers=("features.1.conv.1.0",)))
    graph, floats = quantize(
        graph_of(capture_image(ImageInput(small, preprocess).eval(), preprocess)), kept, fold_weights=True
    )
    assert floats == ("features.1.conv.1.0",)
    convolutions = [n for n in graph.graph.nodes if str(n.target) == "aten.conv2d.default"]
    assert sum("dequantize" not in str(n.args[1].target) for n in convolutions) == 1


def test_float_layers_that_match_nothing_are_refused(small: nn.Module, calibrated: Calibrated) -> None:
    with pytest.raises(BadRecipe, match="'backbone.\\*' matches no layer"):
        calibrated(small, Recipe(float_layers=("backbone.*",)))


def test_no_images(small: nn.Module, preprocess: Preprocess) -> None:
    graph = graph_of(capture_images(ImageInput(small, preprocess).eval(), preprocess))
    with pytest.raises(BadCalibration, match="no images"):
        find_ranges(graph, [], Recipe(), input_range(preprocess))


def test_an_operator_used_twice_in_one_module_gets_two_keys(preprocess: Preprocess) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (self.conv(self.conv(x)) + x).mean((2, 3), keepdim=True).flatten(1)

    graph = graph_of(capture_image(ImageInput(Twice().eval(), preprocess).eval(), preprocess))
    keys = TensorKeys(graph, Recipe())
    found = {keys.of(n) for n in graph.graph.nodes if n.op == "call_function"}
    assert {"conv:conv2d:0", "conv:conv2d.2:0", ":add:0", ":mean:0", INPUT} == found


def test_a_relu_whose_convolution_has_other_readers_passes_values_on(preprocess: Preprocess) -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.relu = nn.Conv2d(3, 4, 1), nn.ReLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(x)
            return (y + self.relu(y)).mean((2, 3), keepdim=True).flatten(1)

    keys, nodes = keyed(Shared(), preprocess)
    relu = next(node for node in nodes if "relu" in str(node.target))
    assert keys.of(relu) == "conv:conv2d:0"
    assert keys.is_quantized(relu)
    assert not keys.is_fused(relu)
    assert not keys.is_watched(relu)


def keyed(network: nn.Module, preprocess: Preprocess) -> tuple[TensorKeys, list[Node]]:
    """The keys of a network as it is captured, and its operators."""
    graph = graph_of(capture_image(ImageInput(network.eval(), preprocess).eval(), preprocess))
    return TensorKeys(graph, Recipe()), [node for node in graph.graph.nodes if node.op == "call_function"]


class Joined(nn.Module):
    """Two concatenations that share an input, behind a maximum pooling, a sigmoid gate and a constant factor."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(3, 4, 1) for _ in range(3))
        self.pool = nn.MaxPool2d(2)
        self.last = nn.Linear(16, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b, c = self.a(x), self.b(x) * 10, self.c(x)
        one, two = torch.cat((self.pool(a), self.pool(c)), 1), torch.cat((a, torch.relu(c)), 1)
        gate = torch.sigmoid(two.mean((2, 3), keepdim=True))
        pooled = torch.cat((one.mean((2, 3), keepdim=True), gate), 1).flatten(1)
        return self.last(pooled) + b.mean((2, 3), keepdim=True).flatten(1)[:, :2]


def test_what_is_concatenated_has_one_scale(
    preprocess: Preprocess, pictures: torch.Tensor, calibrated: Calibrated
) -> None:
    keys, nodes = keyed(Joined(), preprocess)
    by_name = {node.name: keys.of(node) for node in nodes}
    assert by_name["conv2d"] == by_name["conv2d_2"] == by_name["cat"] == by_name["cat_1"] == by_name["max_pool2d"]
    assert by_name["conv2d_1"] != by_name["conv2d"]
    torch.manual_seed(0)
    network = Joined().eval()
    ranges = calibrated(network, Recipe(observer="minmax"))
    values = ranges.values
    with torch.no_grad():
        x = ImageInput(nn.Identity(), preprocess)(pictures)
        both = torch.cat((network.a(x), network.c(x)))
    assert values[by_name["cat"]] == pytest.approx((float(both.min()), float(both.max())), abs=1e-5)
    assert ranges.observers[by_name["cat"]] == "minmax"
    assert ranges.observers[by_name["cat_2"]] == "fixed+minmax"  # a sigmoid's output beside a mean


def test_a_sigmoid_has_the_range_that_every_runtime_gives_it(calibrated: Calibrated) -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(x)
            return (y * torch.sigmoid(y)).mean((2, 3), keepdim=True).flatten(1)

    ranges = calibrated(Gated().eval(), Recipe())
    assert ranges.qparams(":sigmoid:0") == (1 / 256, -128)
    assert ranges.observers[":sigmoid:0"] == "fixed"


@pytest.mark.parametrize(
    ("head", "in_int8"),
    [
        (torch.sigmoid, False),
        (lambda x: 0.5 * (torch.sigmoid(x) + torch.sigmoid(2 * x)), False),
        (lambda x: torch.cat([torch.sigmoid(x[:, :2]), torch.sigmoid(x[:, 2:])], 1), False),
        (lambda x: torch.sigmoid(x) * torch.softmax(x, 1), False),
        (lambda x: torch.sigmoid(x)[:, :, None, None].flatten(1) * 100, False),
        (lambda x: x * torch.sigmoid(x), True),
        (lambda x: x + x * torch.sigmoid(x).reshape(-1, 4), True),
    ],
    ids=["last", "mean of two", "joined", "of a class and its group", "scaled", "gate", "gate before a sum"],
)
def test_a_sigmoid_of_the_answer_stays_in_float(preprocess: Preprocess, head: Any, in_int8: bool) -> None:
    class Headed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = head(self.conv(x).mean((2, 3), keepdim=True).flatten(1))
            return result

    keys, nodes = keyed(Headed(), preprocess)
    sigmoids = [node for node in nodes if node.target == torch.ops.aten.sigmoid.default]
    assert sigmoids
    assert {keys.is_quantized(node) for node in sigmoids} == {in_int8}


def test_arithmetic_with_constants_and_between_float_tensors_stays_in_float(preprocess: Preprocess) -> None:
    class Roots(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(x)
            energy = (y * y) * 0.5 + 1.0
            factor = torch.rsqrt(energy) * torch.sqrt(energy)
            return (y * factor).mean((2, 3), keepdim=True).flatten(1)

    keys, nodes = keyed(Roots(), preprocess)
    products = [node for node in nodes if "mul" in str(node.target) and keys.of(node) != INPUT]
    assert [keys.is_quantized(node) for node in products] == [True, False, False, True]
    assert not any(keys.is_quantized(node) for node in nodes if "add" in str(node.target) or "sqrt" in str(node.target))


def test_each_use_of_a_layer_has_a_bias_of_its_own(preprocess: Preprocess, calibrated: Calibrated) -> None:
    """On the int32 grid of its input's scale; one bias for both would be on the grid of neither."""

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.head = nn.Conv2d(3, 3, 1), nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.head(self.layer(self.layer(x) * x).mean((2, 3)))
            return out

    torch.manual_seed(0)
    network = Twice().eval().requires_grad_(False)
    graph = graph_of(capture_images(ImageInput(network, preprocess).eval(), preprocess))
    int8, _ = quantize(graph, calibrated(network, Recipe()), fold_weights=True)
    uses = [node for node in int8.graph.nodes if node.target == torch.ops.aten.conv2d.default]
    biases = [use.args[2] for use in uses]
    assert len({bias.target for bias in biases}) == 2
    for use, bias in zip(uses, biases, strict=True):
        scales = attrgetter(use.args[1].args[1].target)(int8).double() * use.args[0].args[1]
        steps = attrgetter(bias.target)(int8).double() / scales
        torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-2)
        torch.testing.assert_close(attrgetter(bias.target)(int8), network.layer.bias, rtol=0, atol=float(scales.max()))
