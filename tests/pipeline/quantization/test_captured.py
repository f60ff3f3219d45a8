"""A captured network: what it answers, what it sees last, and itself with edits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from calibration.algorithms.repairs import Repairs
from pipeline.checkpoints.load import load
from pipeline.data import open_data
from pipeline.errors import BadCalibration
from pipeline.quantization.captured import Captured, capture, split


@pytest.fixture(scope="module")
def pixels(small_pictures: Path) -> np.ndarray:
    images = open_data(str(small_pictures), "test")
    shrunk = [images.image(i)[:32, :32] for i in range(0, 40, 8)]
    return np.stack(shrunk)


@pytest.fixture
def captured(small_family: Any, small_checkpoint: Path, pixels: np.ndarray) -> Captured:  # noqa: ARG001
    return capture(load(small_checkpoint), pixels[0])


def normalised(captured: Captured, pixels: np.ndarray) -> torch.Tensor:
    """By the definition."""
    about = captured.checkpoint.preprocess
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (about.mean, about.std))
    return (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - mean) / std


def test_it_answers_as_the_checkpoint_does(captured: Captured, pixels: np.ndarray, small_network: nn.Module) -> None:
    with torch.no_grad():
        expected = small_network(normalised(captured, pixels)).numpy()
    np.testing.assert_allclose(captured.logits(captured.graph(), pixels), expected, rtol=1e-4, atol=1e-5)


def test_features_are_what_the_classifier_gets(
    captured: Captured, pixels: np.ndarray, small_network: nn.Module
) -> None:
    seen: list[torch.Tensor] = []
    last = small_network.classifier[-1]  # type: ignore[index]
    hook = last.register_forward_pre_hook(lambda _module, arguments: seen.append(arguments[0]))
    with torch.no_grad():
        small_network(normalised(captured, pixels))
    hook.remove()
    np.testing.assert_allclose(captured.features(pixels), seen[0].numpy(), rtol=1e-4, atol=1e-5)


def test_edits_change_a_copy(captured: Captured, pixels: np.ndarray) -> None:
    before = captured.logits(captured.graph(), pixels)
    edited = captured.with_repairs(Repairs({"classifier.0.bias": torch.tensor([1.0, -2.0])}))
    old = captured.network.get_parameter("classifier.0.bias").detach().numpy()
    expected = before - old + np.array([1.0, -2.0], np.float32)
    np.testing.assert_allclose(edited.logits(edited.graph(), pixels), expected, rtol=1e-4, atol=1e-5)
    assert np.array_equal(captured.logits(captured.graph(), pixels), before)


@pytest.mark.parametrize("name", ["classifier.0.weight", "nowhere.weight"])
def test_edits_of_another_network_are_refused(captured: Captured, name: str) -> None:
    with pytest.raises(BadCalibration, match=f"Repairs change '{name}', which this network does not have so"):
        captured.with_repairs(Repairs({name: torch.zeros(3)}))


def test_batches_are_channels_first_floats(pixels: np.ndarray) -> None:
    parts = split(pixels, 2)
    assert [part.shape for part in parts] == [(2, 3, 32, 32), (2, 3, 32, 32), (1, 3, 32, 32)]
    assert parts[0].dtype == torch.float32
    assert np.array_equal(torch.cat(parts).permute(0, 2, 3, 1).numpy(), pixels)
