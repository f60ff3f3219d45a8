"""The simulator against integer arithmetic done by hand, in numpy."""

from typing import Any

import numpy as np
import torch
from torch import nn

from calibration.dataset.dataset import CalibrationSet
from calibration.quantize import find_ranges, quantize
from calibration.ranges import INPUT, Ranges
from calibration.recipe import Recipe
from calibration.simulate import KERNELS, Operand, Output, Simulator
from edge_apps.runtime.preprocess import Preprocess
from pipeline.graphs.front_ends import ImageInput, capture_images, graph_of, input_range

aten = torch.ops.aten


def simulated(network: nn.Module, preprocess: Preprocess, pictures: torch.Tensor, recipe: Recipe) -> tuple[Any, Ranges]:
    graph = graph_of(capture_images(ImageInput(network, preprocess).eval(), preprocess))
    nobody = CalibrationSet(source="test", how="all", seed=0, images=())
    values = find_ranges(graph, pictures.split(8), recipe, input_range(preprocess)).values
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
    graph, _ = simulated(small, preprocess, pictures, Recipe(observer="mse"))
    together = Simulator(graph)(pictures)
    apart = torch.cat([Simulator(graph)(picture[None]) for picture in pictures])
    assert torch.equal(together, apart)


def test_sums_and_leaky_relus_round_halves_up() -> None:
    """Fixed-point arithmetic by hand: the shifted multipliers of 1/2 are exact, and every odd sum lies on a half."""
    steps = torch.arange(-7.0, 8.0)
    half = torch.tensor(0.5)
    added = KERNELS[aten.add.Tensor](
        None, [Operand(steps, half, 0), Operand(torch.zeros_like(steps), half, 0)], Output(torch.tensor(1.0), 0), (), {}
    )
    assert torch.equal(added, torch.floor(steps / 2 + 0.5))
    assert added.tolist() != (steps / 2).round().tolist()
    leaky = KERNELS[aten.leaky_relu.default](None, [Operand(steps, half, 0)], Output(torch.tensor(1.0), 0), (0.5,), {})
    assert leaky.tolist() == [-2, -1, -1, -1, -1, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4]
    product = KERNELS[aten.mul.Tensor](
        None, [Operand(steps, half, 0), Operand(torch.ones_like(steps), half, 0)], Output(half, 0), (), {}
    )
    assert torch.equal(product, (steps / 2).round())


def test_a_leaky_slope_has_eight_fractional_bits() -> None:
    """0.3 · 256 = 76.8 becomes 77."""
    steps = torch.arange(-128.0, 0.0)
    one = torch.tensor(1.0)
    answered = KERNELS[aten.leaky_relu.default](None, [Operand(steps, one, 0)], Output(one, 0), (0.3,), {}).numpy()
    assert np.array_equal(answered, np.floor(steps.numpy() * 77 / 256 + 0.5))
    assert not np.array_equal(answered, np.rint(steps.numpy() * 0.3))


def test_a_mean_takes_halves_to_even_with_its_zero_point() -> None:
    """Two values that lie on 0.5: with zero point 0 the even step is 0, with zero point 1 it is 2 − 1 = 1."""
    one = torch.tensor(1.0)
    operand = Operand(torch.tensor([[[[0.0, 1.0]]]]), one, 0)
    for zero_point, expected in ((0, 0), (1, 1)):
        answered = KERNELS[aten.mean.dim](None, [operand], Output(one, zero_point), ([2, 3], True), {})
        assert answered.flatten().tolist() == [expected]
