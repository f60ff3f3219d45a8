"""Networks that end in softmax or sigmoid, in every kind of file."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from torch import nn

from calibration.recipe import Recipe
from edge_apps.chatter import hushed
from edge_apps.runtime.content import Content
from edge_apps.runtime.manifest import FileManifest, OutputKind
from edge_apps.runtime.precisions import Precision
from edge_apps.runtime.preprocess import Preprocess
from edge_apps.runtime.runner import open_runner
from pipeline import targets
from pipeline.graphs.front_ends import ImageInput
from pipeline.graphs.prepare import prepare
from pipeline.targets.base import Source
from pipeline.targets.coreml import _read_back

SIZE, LABELS = 16, ("a", "b", "c", "d")
PREPROCESS = Preprocess(height=SIZE, width=SIZE)
SURE = 40.0
"""Factor of the logits: most probabilities are next to 0 or 1."""


class ChannelSoftmax(nn.Module):
    """Attention over channels: a softmax that is not the last."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * x.mean((2, 3)).softmax(1)[:, :, None, None]


def network(*head: nn.Module, middle: nn.Module | None = None) -> nn.Module:
    torch.manual_seed(0)
    body = [nn.Conv2d(3, 8, 3, 2), nn.ReLU(), middle or nn.Identity(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    linear = nn.Linear(8, len(LABELS))
    with torch.no_grad():
        linear.weight.mul_(SURE)
    return nn.Sequential(*body, linear, *head).eval()


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    """48 of one colour each, with some noise."""
    chance = np.random.default_rng(0)
    tint, noise = chance.integers(0, 224, (48, 1, 1, 3)), chance.integers(0, 32, (48, SIZE, SIZE, 3))
    return (tint + noise).astype(np.uint8)


@pytest.fixture(scope="module")
def source_of(calibrated: Callable[..., Source], pictures: np.ndarray) -> Callable[[nn.Module], Source]:
    """A network as targets get it, with ranges."""

    def made(net: nn.Module) -> Source:
        prepared = prepare(copy.deepcopy(net), PREPROCESS).network
        batch = torch.from_numpy(pictures).permute(0, 3, 1, 2).float()
        return calibrated(prepared, PREPROCESS, batch, Recipe(observer="minmax"))

    return made


@pytest.fixture(scope="module")
def write(about: Callable[..., FileManifest], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``write(source, target, precision, kind)``: a file that says what its outputs are."""

    def written(source: Source, name: str, precision: Precision, kind: OutputKind) -> Path:
        target = targets.targets()[name]
        path = tmp_path_factory.mktemp("file") / f"net{target.suffix}"
        with hushed():
            target.lower(source, replace(about(name, precision, LABELS, PREPROCESS), output=kind), path)
        return path

    return written


LOGITS, SOFTMAX, SIGMOID = network(), network(nn.Softmax(1)), network(nn.Sigmoid())
ATTENTION = network(middle=ChannelSoftmax())


@pytest.mark.parametrize(
    ("net", "kind", "precision", "softmaxes", "classified_by"),
    [
        (LOGITS, "logits", "fp32", 1, "softmax"),
        (SOFTMAX, "probabilities", "fp32", 1, "softmax"),
        (SOFTMAX, "probabilities", "fp16", 1, "softmax"),
        (SOFTMAX, "probabilities", "int8", 1, "softmax"),
        (SIGMOID, "independent-probabilities", "fp16", 0, "sigmoid"),
        (SIGMOID, "independent-probabilities", "int8", 0, "sigmoid"),
        (ATTENTION, "logits", "fp32", 2, "softmax"),
    ],
    ids=["logits", "softmax", "softmax-fp16", "softmax-int8", "sigmoid-fp16", "sigmoid-int8", "softmax within"],
)
def test_core_ml_classifies_by_the_networks_own_probabilities(
    source_of: Callable[[nn.Module], Source],
    write: Callable[..., Path],
    net: nn.Module,
    kind: OutputKind,
    precision: Precision,
    softmaxes: int,
    classified_by: str,
) -> None:
    import coremltools as ct

    path = write(source_of(net), "coreml", precision, kind)
    operations, _ = _read_back(path)
    assert sum(operation.op_type == "softmax" for operation in operations) == softmaxes
    (classify,) = (operation for operation in operations if operation.op_type == "classify")
    last = before(classify.inputs["probabilities"])
    assert (last.op_type, before(last.inputs["x"]).op_type) == (classified_by, "linear")
    outputs = ct.models.MLModel(str(path), skip_model_load=True).get_spec().description.output
    array = "logits" if kind == "logits" else "probabilities"
    assert [output.name for output in outputs] == ["classLabel", "classLabel_probs", array]


def before(variable: Any) -> Any:
    """The operation that computes a variable, seen through casts and the int8 form of it."""
    operation = variable.op
    while operation.op_type in ("cast", "dequantize", "quantize", "mul"):
        operation = operation.inputs["x" if "x" in operation.inputs else "input"].op
    return operation


@pytest.mark.parametrize("name", ["executorch", "tflite"])
@pytest.mark.parametrize("head", [nn.Softmax(1), nn.Sigmoid()], ids=["softmax", "sigmoid"])
def test_an_int8_file_tells_which_of_two_sure_classes_is_the_surer(
    source_of: Callable[[nn.Module], Source],
    write: Callable[..., Path],
    pictures: np.ndarray,
    head: nn.Module,
    name: str,
) -> None:
    """With the head in int8, 0.999 and 0.9999 would both be 1 and the first class would win."""
    with torch.no_grad():
        front = ImageInput(network(head), PREPROCESS).eval()
        own = front(torch.from_numpy(pictures).permute(0, 3, 1, 2).float()).numpy()
    runner = open_runner(Content.read(write(source_of(network(head)), name, "int8", "probabilities")))
    found = runner.run(pictures)
    runner.close()
    assert np.abs(found - own).max() < 0.25, "steps of the int8 logits"
    ordered = np.sort(found)
    assert (ordered[:, -1] > ordered[:, -2]).mean() > 0.9, "hardly any picture has two best classes"
    assert (found.argmax(1) == own.argmax(1)).mean() > 0.9
