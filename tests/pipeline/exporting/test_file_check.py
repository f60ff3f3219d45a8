"""The verdict on a file, by logits that are made by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from calibration.recipe import Recipe
from edge_apps.images import open_images
from edge_apps.runtime.manifest import FileComparison
from edge_apps.runtime.precisions import Precision
from pipeline.data.held_back import judged_images
from pipeline.exporting.file_check import check, int8_loss, not_run
from pipeline.exporting.findings import network_findings
from pipeline.exporting.references import References
from pipeline.metrics.sqnr import EQUAL_DB
from pipeline.quantization.calibrate import Calibration, calibrate, draw
from pipeline.quantization.captured import Captured

CLASSES = ("blue", "red")


def chain(*middle: nn.Module) -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), *middle, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)
    ).eval()


@pytest.fixture
def of(capture_of: Callable[..., Captured], small_pictures: Any) -> Callable[[nn.Module], References]:
    def references(network: nn.Module) -> References:
        captured = capture_of(network)
        calibration = calibrated(captured, small_pictures)
        judged = judged_images(
            open_images(small_pictures), captured.checkpoint.preprocess, 0, calibration.ranges.calibration_set
        )
        return References(captured, captured, calibration.ranges, judged)

    return references


def calibrated(captured: Captured, pictures: Any) -> Calibration:
    recipe = Recipe(observer="minmax")
    return calibrate(captured, draw(captured, open_images(pictures), recipe), recipe)


def with_noise(logits: np.ndarray, decibels: float) -> np.ndarray:
    """The logits with noise that is so many dB below them, the mean over the images apart."""
    varying = logits - logits.mean(0)
    noise = np.random.default_rng(0).standard_normal(logits.shape)
    noise -= noise.mean(0)
    noise *= np.sqrt((varying**2).sum() / (noise**2).sum()) * 10 ** (-decibels / 20)
    return (logits + noise).astype(np.float32)


def judge(references: References, precision: Precision, logits: np.ndarray) -> FileComparison:
    return check(logits, "by hand", precision, references)


@pytest.mark.parametrize(
    ("precision", "decibels", "word"),
    [("fp32", 61, "good"), ("fp32", 59, "bad"), ("fp16", 41, "good"), ("fp16", 39, "bad")],
)
def test_float_files(of: Callable[[nn.Module], References], precision: Precision, decibels: float, word: str) -> None:
    references = of(chain())
    said = judge(references, precision, with_noise(references.float32, decibels))
    assert (said.word, said.judged_on, said.images) == (word, "held-out", 10)
    assert said.sqnr_float_db == pytest.approx(decibels, abs=0.05)
    if word == "bad":
        assert said.findings[0].startswith(f"reaches {decibels}.0 dB, 100 % agreement with the float network;")


def test_a_file_no_worse_than_torch_in_the_same_precision(of: Callable[[nn.Module], References]) -> None:
    """A network that magnifies what float16 rounds: its file is worth a look, not wrong."""
    references = of(chain())
    references.floats.float16 = with_noise(references.float32, 24)  # what torch itself loses
    assert judge(references, "fp16", with_noise(references.float32, 19)).word == "check"
    assert judge(references, "fp16", with_noise(references.float32, 17)).word == "bad"


def test_an_int8_file_of_integers_equals_its_graph(of: Callable[[nn.Module], References]) -> None:
    references = of(chain(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()))
    assert references.float_operators == ()
    equal = judge(references, "int8", references.simulated.copy())
    assert (equal.word, equal.sqnr_graph_db, equal.agreement_graph) == ("good", EQUAL_DB, 1.0)
    one_step = references.simulated.copy()
    one_step[0, 0] = np.nextafter(one_step[0, 0], np.float32(np.inf))
    said = judge(references, "int8", one_step)
    assert said.word == "bad"
    assert "computed in integers, it should be equal" in said.findings[0]


def test_an_int8_file_with_operators_in_float_reaches_40_db(of: Callable[[nn.Module], References]) -> None:
    references = of(chain(nn.Conv2d(8, 8, 3, padding=1), nn.Softmax(1), nn.Conv2d(8, 8, 1)))
    assert references.float_operators == ("3.softmax:softmax",)
    assert judge(references, "int8", with_noise(references.simulated, 41)).word in ("good", "check")
    said = judge(references, "int8", with_noise(references.simulated, 39))
    assert said.word == "bad"
    assert "with its own quantized graph; it should reach 40 dB" in said.findings[0]


def test_int8_weights_are_held_against_rounded_weights(of: Callable[[nn.Module], References]) -> None:
    network = chain()
    references = of(network)
    by_hand = chain()
    with torch.no_grad():
        for layer in (by_hand[0], by_hand[-1]):
            scale = layer.weight.flatten(1).abs().amax(1) / 127
            scale = scale.view(-1, *[1] * (layer.weight.dim() - 1))
            layer.weight.copy_((layer.weight / scale).round() * scale)
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        pixels = torch.from_numpy(references.judged.pixels).permute(0, 3, 1, 2) / 255
        expected = by_hand((pixels - mean) / std).numpy()
    np.testing.assert_allclose(references.rounded_weights, expected, atol=1e-5)
    assert not np.allclose(references.rounded_weights, references.float32, atol=1e-5)
    assert judge(references, "int8-weights", references.rounded_weights).word == "good"
    assert judge(references, "int8-weights", with_noise(references.rounded_weights, 50)).word == "bad"


def test_double_precision_leaves_the_network_as_it_is(of: Callable[[nn.Module], References]) -> None:
    references = of(chain())
    assert references.float64.dtype == np.float64
    np.testing.assert_allclose(references.float64, references.float32, atol=1e-5)
    assert all(parameter.dtype == torch.float32 for parameter in references.captured.network.parameters())


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_no_numbers(of: Callable[[nn.Module], References], value: float) -> None:
    references = of(chain())
    said = judge(references, "fp32", np.full((10, 2), value, np.float32))
    assert (said.word, said.sqnr_float_db) == ("bad", None)
    assert said.findings == ("gives logits that are NaN or infinite",)


def test_an_overflow_of_a_file_that_cannot_be_run(of: Callable[[nn.Module], References]) -> None:
    network = chain(nn.Conv2d(8, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 1))
    with torch.no_grad():
        network[2].weight.mul_(1e5)
        network[4].weight.div_(1e5)
    references = of(network)
    said = not_run("no such machine", "fp16", references)
    assert (said.status, said.word, said.judged_on) == ("not run", "bad", "held-out")
    assert said.findings[0].startswith("overflows float16: conv2d in '2' reaches")
    assert not_run("no such machine", "fp32", references).word is None
    assert not_run("no such machine", "fp16", of(chain())).findings == ()


def collapsed() -> nn.Sequential:
    network = chain()
    with torch.no_grad():
        network[-1].weight.mul_(1e-6)
        network[-1].bias.copy_(torch.tensor([0.3, -0.2]))
    return network


def test_a_collapsed_network_is_named(of: Callable[[nn.Module], References]) -> None:
    references = of(collapsed())
    assert references.collapsed
    said = judge(references, "fp32", references.float32 + np.float32(1e-5))
    assert (said.word, said.collapsed) == ("check", True)
    assert judge(references, "fp32", references.float32 * np.float32(1.1)).word == "bad"
    (finding,) = network_findings(references, None, CLASSES, lambda: None)
    assert finding.startswith("The network has collapsed: over the judged images its logits vary by only")


def test_int8_that_loses_much_is_said_once_with_the_layer(
    of: Callable[[nn.Module], References], small_pictures: Any
) -> None:
    """One channel a thousand times larger than the others takes the whole range of its layer."""
    network = chain(nn.Conv2d(8, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 1))
    with torch.no_grad():
        network[2].weight[0].mul_(1e4)
        network[4].weight[:, 0].div_(1e4)
        blue = torch.tensor([1.0, -1.0])
        network[-1].bias.zero_()
        network[-1].weight.copy_(torch.outer(blue, network[-1].weight[0]))
    references = of(network)
    calibration = calibrated(references.captured, small_pictures)
    assert int8_loss(references) is not None
    names = [references.judged.classes[i] for i in range(len(references.judged))]
    right = [CLASSES.index(name) for name in names]
    knows_all = np.eye(2, dtype=np.float32)[right]
    references.floats.float32 = knows_all + references.float32 * np.float32(1e-3)
    (finding,) = network_findings(references, calibration, CLASSES, lambda: None)
    assert finding.startswith("int8 against float: ")
    assert "Most damaged layer: " in finding


def test_a_network_that_guesses_is_said_to_be_untrained(
    of: Callable[[nn.Module], References], small_pictures: Any
) -> None:
    references = of(chain())
    references.simulated = with_noise(references.float32, 3)
    references.floats.float32 = (
        np.tile(references.float32[:1], (10, 1)) + references.float32 * 1e-1
    )  # always the same class
    calibration = calibrated(references.captured, small_pictures)
    (finding,) = network_findings(references, calibration, CLASSES, lambda: None)
    assert "as guessing would be: train it first" in finding
    assert "Most damaged layer" not in finding


def test_a_network_that_mixes_images_is_named(of: Callable[[nn.Module], References]) -> None:
    references = of(collapsed())
    references.captured = dataclasses.replace(references.captured, mixing="'aten.sub.Tensor' in '3'")
    first, _ = network_findings(references, None, CLASSES, lambda: None)
    assert first.startswith("The network mixes the images of a batch (first seen at 'aten.sub.Tensor' in '3'): its")
