"""The simulator against integer arithmetic done by hand, in numpy."""

from typing import Any

import numpy as np
import torch
from torch import nn

from calibration.dataset import CalibrationSet
from calibration.quantize import find_ranges, quantize
from calibration.ranges import INPUT, Ranges
from calibration.recipe import Recipe
from calibration.simulate import Simulator
from edge_apps.runtime.preprocess import Preprocess
from pipeline.capture import ImageInput, capture_images, fold_batch_norms, graph_of, input_range


def simulated(network: nn.Module, preprocess: Preprocess, pictures: torch.Tensor, recipe: Recipe) -> tuple[Any, Ranges]:
    graph = graph_of(capture_images(ImageInput(network, preprocess).eval(), preprocess))
    nobody = CalibrationSet(source="test", how="all", seed=0, images=())
    values = find_ranges(graph, pictures.split(8), recipe, input_range(preprocess))
    ranges = Ranges(
        checkpoint_sha256="0" * 64, preprocess=preprocess, recipe=recipe, calibration_set=nobody, values=values
    )
    return quantize(graph, ranges, fold_weights=True)[0], ranges


def test_one_layer_is_integer_arithmetic(preprocess: Preprocess, pictures: torch.Tensor) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 4)).eval()
    graph, ranges = simulated(network, preprocess, pictures, Recipe(observer="minmax"))
    answered = Simulator(graph)(pictures).numpy()

    front = ImageInput(network, preprocess)
    normalised = (pictures * front.scale + front.offset).flatten(1).numpy()
    s_in, z_in = ranges.qparams(INPUT)
    s_out, z_out = ranges.qparams("1:linear:0")
    x = np.clip(np.rint(normalised / np.float32(s_in)) + z_in, -128, 127).astype(np.int64) - z_in
    weight, bias = network[1].weight.detach().double().numpy(), network[1].bias.detach().double().numpy()
    s_w = (np.abs(weight).max(1) / 127).astype(np.float32).astype(np.float64)
    w = np.clip(np.rint(weight / s_w[:, None]), -127, 127).astype(np.int64)
    sums = x @ w.T + np.rint(bias / (s_in * s_w)).astype(np.int64)
    y = np.clip(np.rint((sums * (s_in * s_w)).astype(np.float32) / np.float32(s_out)) + z_out, -128, 127)
    assert np.array_equal(np.rint(answered / s_out), y - z_out)


def test_near_the_plain_graph_and_float_layers_pass(
    small: nn.Module, preprocess: Preprocess, pictures: torch.Tensor
) -> None:
    for recipe in (Recipe(observer="minmax"), Recipe(observer="minmax", float_layers=("features.1.conv.1.0",))):
        graph, ranges = simulated(small, preprocess, pictures, recipe)
        with torch.no_grad():
            plain = graph(pictures)
        step = ranges.qparams("classifier.1:linear:0").scale
        assert float((Simulator(graph)(pictures) - plain).abs().max()) <= 2.5 * step


def test_batch_size_changes_nothing(small: nn.Module, preprocess: Preprocess, pictures: torch.Tensor) -> None:
    graph, _ = simulated(fold_batch_norms(small), preprocess, pictures, Recipe(observer="mse"))
    together = Simulator(graph)(pictures)
    apart = torch.cat([Simulator(graph)(picture[None]) for picture in pictures])
    assert torch.equal(together, apart)
