"""The network that is saved is the one that was trained, and what is said of it is true."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from recorder import Recorder
from safetensors.torch import load_file

from edge_apps.images import open_images, write_png
from edge_apps.progress import shown_by
from pipeline.checkpoints import user_networks
from pipeline.checkpoints.load import load
from pipeline.data.reading import load_all
from pipeline.graphs.normalise import Normalise
from pipeline.training.job import Job, Measured, Trained, train

NETWORKS = """
import torch
from torch import nn


class Frozen(nn.BatchNorm2d):
    def train(self, mode=True):
        return super().train(False)


class Formula(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.register_buffer("mean", torch.full((channels,), 9.0))

    def forward(self, x):
        mean = x.mean((0, 2, 3)) if self.training else self.mean
        if self.training:
            self.mean.lerp_(mean.detach(), 0.001)
        return x - mean[:, None, None]


NORMS = {
    "batch": nn.BatchNorm2d,
    "cumulative": lambda n: nn.BatchNorm2d(n, momentum=None),
    "slow": lambda n: nn.BatchNorm2d(n, momentum=0.001),
    "group": lambda n: nn.GroupNorm(2, n),
    "none": lambda n: nn.Identity(),
    "frozen": Frozen,
}


class Network(nn.Sequential):
    def __init__(self, norm, classes):
        super().__init__(
            nn.Conv2d(3, 8, 3, 2), NORMS[norm](8), nn.ReLU(),
            nn.Conv2d(8, 16, 3, 2), NORMS[norm](16), nn.ReLU(),
            nn.Conv2d(16, 16, 3, 2), NORMS[norm](16), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), NORMS[norm](16), nn.Flatten(), nn.Linear(16, classes),
        )


class Otherwise(Network):
    def forward(self, x):
        logits = super().forward(x)
        return logits if self.training else -logits


def otherwise(classes):
    return Otherwise("none", classes)


def formula(classes):
    network = Network("none", classes)
    network[1] = Formula(8)
    return network
"""
BATCH_NORMS = ("batch", "cumulative", "slow")
NORMS = (*BATCH_NORMS, "group", "none", "frozen")
NETWORKS += "".join(f'\n\ndef {norm}(classes):\n    return Network("{norm}", classes)\n' for norm in NORMS)

Train = Callable[..., tuple[Trained, list[str], Path]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "set", 33)  # in batches of 8 one image is left over


def make_folder(root: Path, count: int, blue_of: int = 2, noise: int = 0) -> Path:
    """Two classes that differ in colour, or in nothing; one of ``blue_of`` images is blue."""
    chance = np.random.default_rng(noise)
    for i in range(count):
        place = root / ("red" if i % blue_of else "blue")
        place.mkdir(parents=True, exist_ok=True)
        image = chance.integers(0, 120, (32, 32, 3), np.uint8)
        if not noise:
            image[:, :, 0 if i % blue_of else 2] += 15
        write_png(place / f"{i}.png", image)
    return root


@pytest.fixture
def trained(tmp_path: Path, job: Callable[..., Job]) -> Train:
    """Train one of ``NETWORKS``; the result, the lines it printed, the checkpoint."""
    code = tmp_path / "net.py"
    code.write_text(NETWORKS)

    def run(folder: Path, network: str, name: str = "x", **changes: Any) -> tuple[Trained, list[str], Path]:
        out, recorder = tmp_path / f"{name}.safetensors", Recorder()
        made = job(folder, out, **{"epochs": 12, "lr": 0.02, **changes})
        spec = user_networks.find(f"{code}:{network}")
        settings = msgspec.structs.replace(made.settings, model=spec.name, options={})
        with shown_by(recorder):
            result = train(dataclasses.replace(made, spec=spec, settings=settings))
        return result, recorder.notes, out

    return run


def right(out: Path, network: str, folder: Path) -> int:
    """Images of the folder that the file's network gets right, run image by image as a device does."""
    made = load(out, model=f"{out.parent / 'net.py'}:{network}")
    data, normalise, built = load_all(open_images(folder), made.preprocess), Normalise(made.preprocess), made.network()
    with torch.no_grad():
        answers = [int(built(normalise(torch.from_numpy(image[None]))).argmax()) for image in data.images]
    return int((np.array(answers) == data.labels).sum())


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("network", NORMS)
def test_a_training_is_as_good_once_saved_whatever_its_norms(folder: Path, trained: Train, network: str) -> None:
    """Batch norms in four steps, after which running statistics answer one class for every image."""
    short = {"epochs": 1, "lr": 0.06} if network in BATCH_NORMS else {"epochs": 12, "lr": 0.05}
    result, lines, out = trained(folder, network, **short)
    assert result.on_training.images == 33
    assert result.on_training.correct == right(out, network, folder)
    if network in BATCH_NORMS:
        assert result.on_training.correct >= 31
        assert result.warnings == ()
        assert not any("Warning" in line for line in lines)
    record = load(out, model=f"{out.parent / 'net.py'}:{network}").training
    assert record["on_training"] == {"images": 33, "correct": result.on_training.correct}
    assert record["warnings"] == list(result.warnings)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_saved_statistics_are_those_of_the_saved_weights(folder: Path, trained: Train, dtype: torch.dtype) -> None:
    _, _, out = trained(folder, "batch", dtype=dtype)
    made = load(out, model=f"{out.parent / 'net.py'}:batch")
    pixels = Normalise(made.preprocess)(torch.from_numpy(load_all(open_images(folder), made.preprocess).images))
    with torch.no_grad():
        values = made.network()[0](pixels)  # type: ignore[index]
    assert torch.allclose(made.state["1.running_mean"], values.mean((0, 2, 3)), atol=1e-4)
    assert torch.allclose(made.state["1.running_var"], values.var((0, 2, 3)), rtol=1e-4)


@pytest.mark.usefixtures("one_thread")
def test_measuring_after_every_epoch_changes_nothing(folder: Path, trained: Train) -> None:
    """And what is measured is what would be saved: the last epoch's is the file's."""
    _, _, plain = trained(folder, "batch", "plain", ema=0.9)
    result, lines, measured = trained(folder, "batch", "measured", ema=0.9, val=open_images(folder))
    first, second = load_file(plain), load_file(measured)
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    assert result.correct is not None
    assert f"val {result.correct / 33:.2%}" in next(line for line in lines if line.startswith("epoch 12/12"))


def test_a_network_at_chance_is_warned_of(tmp_path: Path, trained: Train) -> None:
    folder = make_folder(tmp_path / "noise", 24, noise=5)
    result, lines, _ = trained(folder, "none", epochs=1, lr=1e-9, val=open_images(folder))
    assert len(result.warnings) == 2  # of the training and of the validation images
    expected = f"right on {result.correct} of 24 images of '{folder}' ({result.correct / 24:.1%}), which is not clearly"
    assert all(f"{expected} better than guessing one of 2 classes (50.0%)" in warning for warning in result.warnings)
    assert [line for line in lines if line.startswith("Warning: ")] == [f"Warning: {line}" for line in result.warnings]


def test_a_network_at_the_majority_share_is_warned_of(tmp_path: Path, trained: Train) -> None:
    folder = make_folder(tmp_path / "mostly red", 60, blue_of=6, noise=5)
    result, _, out = trained(folder, "group", epochs=2, lr=0.01)
    assert result.on_training == Measured(60, 50)
    assert len(result.warnings) == 1
    assert "is not clearly better than answering 'red' for every image (83.3%)" in result.warnings[0]
    assert load(out, model=f"{out.parent / 'net.py'}:group").training["warnings"] == list(result.warnings)


def test_a_network_that_computes_otherwise_once_saved_is_warned_of(folder: Path, trained: Train) -> None:
    result, _, _ = trained(folder, "otherwise")
    assert result.last.top1 > 0.9
    said = f"in the last epoch of training it was right on {result.last.top1:.1%}. Either it computes differently in"
    assert any(said in warning for warning in result.warnings)


def test_a_module_whose_statistics_lag_is_named(folder: Path, trained: Train) -> None:
    result, _, _ = trained(folder, "formula")
    assert result.last.top1 > 0.9
    said = "It keeps running statistics by a formula of its own in '1'; those lag behind the weights"
    assert any(said in warning for warning in result.warnings)
