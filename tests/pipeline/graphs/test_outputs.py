"""What a network's outputs are: logits, or probabilities of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.export import Dim, export

from edge_apps.runtime.manifest import OutputKind
from pipeline.graphs.outputs import output_kind

Head = Callable[[torch.Tensor], torch.Tensor]


class Headed(nn.Module):
    """A convolution, a mean, a linear layer to ``outputs`` numbers, and a head."""

    def __init__(self, head: Head, outputs: int = 4) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.linear, self.head = nn.Conv2d(3, 8, 3, 2), nn.Linear(8, outputs), head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(10 * self.linear(self.conv(x).relu().mean((2, 3))))


def kind_of(network: nn.Module, images: int = 16) -> OutputKind:
    """By its program, and its answers on images."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(images, 3, 8, 8, generator=generator) + torch.randn(images, 3, 1, 1, generator=generator)
    network = network.eval()
    free = ({0: Dim("batch", min=1, max=64)},)
    program = export(network, (torch.zeros(2, 3, 8, 8),), dynamic_shapes=free, strict=False)
    with torch.no_grad():
        return output_kind(program, network(x).numpy())


def by_hand(x: torch.Tensor) -> torch.Tensor:
    exponentials = (x - x.amax(1, keepdim=True)).exp()
    return exponentials / exponentials.sum(1, keepdim=True)


def as_map(x: torch.Tensor) -> torch.Tensor:
    """A fully convolutional head: softmax over the channels of a map, then flattened."""
    return x[:, :, None, None].softmax(1).flatten(1)


SOFTMAXES: dict[str, Head] = {
    "module": nn.Softmax(1),
    "last axis": nn.Softmax(-1),
    "functional": lambda x: torch.nn.functional.softmax(x, dim=1),
    "by hand": by_hand,
    "of a map": as_map,
    "log-softmax, then exp": lambda x: x.log_softmax(1).exp(),
    "with a temperature": lambda x: (x / 3).softmax(1),
    "in float16": lambda x: x.half().softmax(1).float(),
    "in bfloat16": lambda x: x.bfloat16().softmax(1).float(),
    "clamped for a logarithm": lambda x: x.softmax(1).clamp(min=1e-7, max=1.0),
    "mean of two": lambda x: 0.5 * (x.softmax(1) + (2 * x).softmax(1)),
}

SIGMOIDS: dict[str, Head] = {
    "module": nn.Sigmoid(),
    "functional": torch.sigmoid,
    "hard": nn.Hardsigmoid(),
    "by hand": lambda x: 1 / (1 + (-x).exp()),
    "from a tangent": lambda x: 0.5 * (torch.tanh(0.5 * x) + 1),
    "of a map": lambda x: x[:, :, None, None].sigmoid().flatten(1),
    "in float16": lambda x: x.half().sigmoid().float(),
    "mean of two": lambda x: (x.sigmoid() + (2 * x).sigmoid()) / 2,
    "several heads": lambda x: torch.cat([x[:, :2].sigmoid(), x[:, 2:].sigmoid()], 1),
    "class given object": lambda x: x.softmax(1) * x[:, :1].sigmoid(),
    "clamped": lambda x: x.clamp(0, 1),
    "hard tangent": nn.Hardtanh(0.0, 1.0),
    "ReLU6 over six": lambda x: nn.functional.relu6(x + 3) / 6,
}

LOGITS: dict[str, Head] = {
    "linear": nn.Identity(),
    "after a ReLU": nn.ReLU(),
    "after a ReLU6": nn.ReLU6(),
    "log-softmax": nn.LogSoftmax(1),
    "tangent": nn.Tanh(),
    "scaled sigmoid": lambda x: 10 * x.sigmoid(),
    "gated": lambda x: x * x.sigmoid(),
    "normalised to length 1": lambda x: nn.functional.normalize(x.relu() + 0.1, dim=1),
    "small and positive": lambda x: (x / 1000).abs(),
    "within 0…1 on these images": lambda x: x / 1000 + 0.5,
    "softmax over the images": lambda x: x.softmax(0) * 3,
}


@pytest.mark.parametrize("head", SOFTMAXES.values(), ids=list(SOFTMAXES))
def test_a_softmax_is_recognised_however_it_is_written(head: Head) -> None:
    assert kind_of(Headed(head)) == "probabilities"


@pytest.mark.parametrize(("head", "kind"), [(nn.Softmax(1), "probabilities"), (nn.ReLU(), "logits")])
def test_two_classes(head: Head, kind: OutputKind) -> None:
    assert kind_of(Headed(head, outputs=2)) == kind


def test_a_sigmoid_and_its_complement_are_a_softmax_of_two() -> None:
    assert kind_of(Headed(lambda x: torch.cat([x.sigmoid(), 1 - x.sigmoid()], 1), outputs=1)) == "probabilities"


@pytest.mark.parametrize("head", SIGMOIDS.values(), ids=list(SIGMOIDS))
def test_a_sigmoid_is_recognised_by_its_operators(head: Head) -> None:
    assert kind_of(Headed(head)) == "independent-probabilities"


@pytest.mark.parametrize("head", LOGITS.values(), ids=list(LOGITS))
def test_logits_stay_logits(head: Head) -> None:
    assert kind_of(Headed(head)) == "logits"


@pytest.mark.parametrize("head", [nn.Softmax(1), by_hand])
def test_one_image_is_enough_for_a_softmax(head: Head) -> None:
    assert kind_of(Headed(head), images=1) == "probabilities"


def test_one_class() -> None:
    assert kind_of(Headed(nn.Sigmoid(), outputs=1)) == "independent-probabilities"
    assert kind_of(Headed(nn.Identity(), outputs=1)) == "logits"


def test_a_sure_sigmoid_is_still_one() -> None:
    """Its outputs sum to 1 on every image that one class alone is sure of."""

    class Sure(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack([x.amax((1, 2, 3)), -x.amax((1, 2, 3))], 1).mul(1000).sigmoid()

    assert kind_of(Sure()) == "independent-probabilities"


def test_many_classes_sum_to_one_within_float32() -> None:
    assert kind_of(Headed(nn.Softmax(1), outputs=21_843)) == "probabilities"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_is_no_probability(value: float) -> None:
    program: Any = export(Headed(nn.Sigmoid()).eval(), (torch.zeros(1, 3, 8, 8),))
    assert output_kind(program, np.full((2, 4), value, np.float32)) == "logits"
