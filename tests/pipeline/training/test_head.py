"""A network that already returns probabilities is recognised before it is trained."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edge_apps.runtime.preprocess import Preprocess
from pipeline.training.head import gives_probabilities

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), np.uint8)


@pytest.mark.parametrize(
    ("head", "expected"),
    [(nn.Softmax(1), True), (nn.Sigmoid(), True), (nn.Identity(), False), (nn.LogSoftmax(1), False)],
)
def test_before_the_first_step(head: nn.Module, expected: bool) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3), head
    )
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert gives_probabilities(network, IMAGES, Preprocess(height=32, width=32)) is expected
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_one_image_at_a_time() -> None:
    class Single(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean((2, 3)).reshape(1, 3).softmax(1)

    assert gives_probabilities(Single(), IMAGES, Preprocess(height=32, width=32))
