"""Float16 in torch: the first operator that overflows, and the logits that are left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.exporting.float16 import half_logits, overflow
from pipeline.graphs.front_ends import ImageInput, in_half
from pipeline.metrics.sqnr import sqnr_db

IMAGES = np.random.default_rng(1).integers(0, 256, (5, 4, 4, 3), np.uint8).repeat(8, axis=1).repeat(8, axis=2)


def network(gain: float = 1.0) -> Any:
    """Two 1×1 convolutions, the first ``gain`` times as large and the second as much smaller: the same logits."""
    torch.manual_seed(0)
    net: Any = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1),
        nn.ReLU(),
        nn.Sequential(nn.Conv2d(8, 8, 1, bias=False), nn.ReLU(), nn.Conv2d(8, 8, 1), nn.ReLU()),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 2),
    )
    with torch.no_grad():
        net[2][0].weight.mul_(gain)
        net[2][2].weight.div_(gain)
    return net.eval()


def test_a_network_within_range_is_left_alone(capture_of: Callable[..., Any]) -> None:
    captured = capture_of(network())
    assert overflow(captured, IMAGES) is None
    exact, half = captured.logits(captured.graph(), IMAGES), half_logits(captured, IMAGES)
    assert half.dtype == np.float32
    assert 45 < sqnr_db(exact, half) < 80, "the eleven bits of float16, not the 24 of float32"
    with torch.no_grad():
        own = in_half(ImageInput(network(), captured.checkpoint.preprocess))(captured.batches(IMAGES, 5)[0].half())
    assert sqnr_db(own.numpy(), half) > 60, "as torch's own kernels, where this CPU has them"


def test_the_first_operator_that_overflows_is_named(capture_of: Callable[..., Any]) -> None:
    captured = capture_of(network(1.5e5))
    found = overflow(captured, IMAGES)
    assert found is not None
    assert (found.path, found.operator) == ("2.0", "conv2d")
    net, about = network(1.5e5), captured.checkpoint.preprocess
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (about.mean, about.std))
    with torch.no_grad():
        before = net[:2]((captured.batches(IMAGES, 5)[0] / 255 - mean) / std)
        assert found.largest == pytest.approx(float(net[2][0](before).abs().max()), rel=1e-4)
    assert found.largest > 65_504
    assert str(found).startswith("conv2d in '2.0' reaches ")
    assert str(found).endswith("float16 ends at 65,504")
    assert np.isfinite(captured.logits(captured.graph(), IMAGES)).all()
    assert not np.isfinite(half_logits(captured, IMAGES)).all()


def test_the_magnitude_is_the_largest_of_all_images(capture_of: Callable[..., Any]) -> None:
    captured = capture_of(network(1.5e5))
    each = [overflow(captured, IMAGES[i : i + 1]) for i in range(len(IMAGES))]
    together = overflow(captured, IMAGES)
    assert together is not None
    assert together.largest == pytest.approx(max(found.largest for found in each if found))


def test_a_weight_that_float16_cannot_hold_is_named(capture_of: Callable[..., Any]) -> None:
    found = overflow(capture_of(network(1e6)), IMAGES)
    assert found is not None
    assert (found.path, found.operator) == ("2.0", "weight")


def test_infinity_in_the_graph_is_no_overflow(capture_of: Callable[..., Any]) -> None:
    class Masked(nn.Module):
        """Attention's mask: −∞ before a softmax is meant, and float16 has it."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = x.mean((2, 3))[:, :2]
            return x.masked_fill(x < x.amax(1, keepdim=True), float("-inf")).softmax(1)

    captured = capture_of(Masked())
    assert overflow(captured, IMAGES) is None
    assert np.isfinite(half_logits(captured, IMAGES)).all()


def test_several_results_of_one_operator(capture_of: Callable[..., Any]) -> None:
    class Topped(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            largest, _ = torch.topk(x.flatten(1) * 1e5, 2)
            return largest * 1e-5

    found = overflow(capture_of(Topped()), IMAGES)
    assert found is not None
    assert (found.path, found.operator) == ("", "mul")


def test_squares_of_a_normalisation_written_out_overflow(capture_of: Callable[..., Any]) -> None:
    class RootMeanSquare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = Norm()
            self.head = nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> Any:
            return self.head(self.norm(400 * x).mean((2, 3)))

    class Norm(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x / (x.pow(2).mean(1, keepdim=True) + 1e-6).sqrt()

    found = overflow(capture_of(RootMeanSquare()), IMAGES)
    assert found is not None
    assert (found.path, found.operator) == ("norm", "pow")
