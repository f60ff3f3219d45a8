"""Quantization-aware training: what it simulates, what learns, and what comes of it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from recorder import Recorder
from safetensors.torch import load_file
from torch import nn

from calibration.quantize import quantize
from calibration.recipe import Recipe
from edge_apps.images import ImageSet, open_images
from edge_apps.progress import shown_by
from edge_apps.runtime.preprocess import to_batch
from pipeline import zoo
from pipeline.checkpoints.load import load
from pipeline.data.reading import digest, load_all
from pipeline.errors import BadInput
from pipeline.graphs.front_ends import ImageInput
from pipeline.quantization.calibrate import Calibration, calibrate, draw
from pipeline.quantization.captured import Captured, capture, split
from pipeline.training.job import Job, Trained, train
from pipeline.training.loop import Diverged, Training
from pipeline.training.quantization import Simulation
from pipeline.training.settings import Settings, check_same
from pipeline.training.state import state_path
from pipeline.zoo.spec import ModelSpec

RECIPE = Recipe(weights="per-tensor", images=16, observer="minmax")
CPU = torch.device("cpu")

pytestmark = pytest.mark.usefixtures("small_family", "one_thread")


@pytest.fixture(scope="module")
def images(small_pictures: Path) -> ImageSet:
    return open_images(small_pictures)


@pytest.fixture(scope="module")
def captured(small_spec: ModelSpec, small_checkpoint: Path, images: ImageSet) -> Captured:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(zoo.specs(), small_spec.name, small_spec)
        return capture(load(small_checkpoint), images.image(0))


@pytest.fixture(scope="module")
def calibration(captured: Captured, images: ImageSet) -> Calibration:
    return calibrate(captured, draw(captured, images, RECIPE), RECIPE)


def normalised(captured: Captured, images: ImageSet) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures as float pixels, and as training hands them over."""
    preprocess = captured.checkpoint.preprocess
    pixels = split(to_batch([images.image(i) for i in range(len(images))], preprocess), len(images))[0]
    return pixels, ImageInput(nn.Identity(), preprocess)(pixels)


def test_it_starts_as_the_graph_that_an_export_would_make(
    captured: Captured, calibration: Calibration, images: ImageSet
) -> None:
    pixels, x = normalised(captured, images)
    with torch.no_grad():
        exported = quantize(captured.graph(), calibration.ranges, fold_weights=True)[0](pixels)
        simulated = Simulation(captured, calibration, CPU)(captured.checkpoint.network(), x)
    assert torch.equal(simulated, exported)


def test_equalised_weights_are_simulated_as_they_will_be_exported(captured: Captured, images: ImageSet) -> None:
    recipe = Recipe(weights="per-tensor", images=16, repairs=("equalize",))
    calibration = calibrate(captured, draw(captured, images, recipe), recipe)
    assert calibration.repairs is not None
    assert calibration.repairs.tensors
    pixels, x = normalised(captured, images)
    with torch.no_grad():
        graph = calibration.applied(captured).graph()
        exported = quantize(graph, calibration.ranges, fold_weights=True)[0](pixels)
        simulated = Simulation(captured, calibration, CPU)(captured.checkpoint.network(), x)
        plain = captured.graph()(pixels)
    # A factor may round a weight at the edge of an int8 step the other way.
    assert float((simulated - exported).abs().max()) <= 0.2 * float((exported - plain).abs().max())


def test_weights_scales_and_shifts_learn_and_nothing_else(
    captured: Captured, calibration: Calibration, images: ImageSet
) -> None:
    simulation, network = Simulation(captured, calibration, CPU), captured.checkpoint.network()
    _, x = normalised(captured, images)
    parameters = dict(network.named_parameters())
    gradients = torch.autograd.grad(simulation(network, x).square().sum(), list(parameters.values()))
    for name, gradient in zip(parameters, gradients, strict=True):
        assert bool(gradient.any()), name
        assert bool(torch.isfinite(gradient).all()), name
    assert not any(tensor.requires_grad for tensor in simulation._graph.parameters())
    # To first order the logits follow from W · γ / σ: what γ's gradient is, is W's along W, channel by channel.
    weights, scales = (gradients[list(parameters).index(f"features.0.{name}.weight")] for name in "01")
    along = (weights * parameters["features.0.0.weight"]).flatten(1).sum(1)
    mean, shift = network.get_buffer("features.0.1.running_mean"), list(parameters).index("features.0.1.bias")
    deviation = (network.get_buffer("features.0.1.running_var") + 1e-5).sqrt()
    expected = along / parameters["features.0.1.weight"] - gradients[shift] * mean / deviation
    assert torch.allclose(scales, expected, rtol=1e-3, atol=1e-3 * float(scales.abs().max()))


def job(source: Path, folder: Path, out: Path, *, epochs: int = 3, recipe: Recipe = RECIPE, **changes: Any) -> Job:
    tuned, data = load(source), open_images(folder)
    values: dict[str, Any] = {
        "model": tuned.spec.name,
        "options": tuned.options,
        "input": 32,
        "data": digest(data),
        "epochs": epochs,
        "batch_size": 8,
        "optimizer": "adamw",
        "lr": 1e-3,
        "weight_decay": 0.05,
        "schedule": "onecycle",
        "label_smoothing": 0.1,
        "ema": 0.5,
        "seed": 0,
        "augment": "none",
        "precision": "auto",
        "qat": tuned.sha256,
        "recipe": recipe,
    }
    return Job(
        spec=tuned.spec,
        settings=Settings(**{**values, **changes}),
        data=data,
        val=data,
        out=out,
        dtype=torch.float32,
        device="cpu",
        restart=False,
        skipped=(),
        command="pipeline train …",
        weights=tuned,
    )


def run(made: Job) -> tuple[Trained, list[str]]:
    recorder = Recorder()
    with shown_by(recorder):
        return train(made), recorder.notes


def test_what_comes_of_it_is_the_same_network_with_a_better_int8(
    small_checkpoint: Path, small_pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "qat.safetensors"
    trained, lines = run(job(small_checkpoint, small_pictures, out, epochs=6))
    before, after = load(small_checkpoint), load(out)
    assert after.training_sets == (after.training["settings"]["data"], *before.training_sets)
    assert [hashes.data for hashes in after.hashes] == [after.training["settings"]["data"]]
    same = ("spec", "options", "labels", "preprocess")
    assert [getattr(before, name) for name in same] == [getattr(after, name) for name in same]
    assert after.training["settings"]["qat"] == before.sha256
    assert after.training["settings"]["recipe"]["weights"] == "per-tensor"
    assert after.training["settings"]["precision"] == "fp32"
    statistics = [name for name in before.state if "running" in name]
    assert statistics
    assert all(torch.equal(before.state[name], after.state[name]) for name in statistics)
    assert not torch.equal(before.state["features.0.0.weight"], after.state["features.0.0.weight"])
    validated = after.training["val"]
    assert (validated["correct"], validated["int8_correct"]) == (trained.correct, trained.int8_correct)
    # The untrained linear layer on top is at chance; colours are easily learnt, in float and in int8.
    at_first = float(next(line for line in lines if line.startswith("epoch 0/6")).split()[-1].rstrip("%"))
    assert trained.correct is not None
    assert trained.int8_correct is not None
    assert 100 * trained.int8_correct / 40 > at_first
    assert trained.correct >= 36
    assert trained.int8_correct >= 36
    assert "Starts from small.safetensors; int8 is simulated, with per-tensor weights." in lines
    # The recorded int8 accuracy is that of a new calibration of the file too, but for pictures near the border.
    captured = capture(after, open_images(small_pictures).image(0))
    images = open_images(small_pictures)
    calibration = calibrate(captured, draw(captured, images, RECIPE), RECIPE)
    pixels, _ = normalised(captured, images)
    with torch.no_grad():
        exported = quantize(captured.graph(), calibration.ranges, fold_weights=True)[0](pixels)
    correct = int((exported.argmax(1) == torch.tensor(images.labels)).sum())
    assert abs(correct - trained.int8_correct) <= 2


def test_it_is_taken_up_again_bit_for_bit(
    small_checkpoint: Path, small_pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = tmp_path / "whole.safetensors", tmp_path / "broken.safetensors"
    run(job(small_checkpoint, small_pictures, whole))
    run_epoch = Training.run_epoch

    def interrupted(self: Training, on_step: Any) -> Any:
        if self.epochs_done == 1:
            raise KeyboardInterrupt
        return run_epoch(self, on_step)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "run_epoch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(job(small_checkpoint, small_pictures, broken))
    assert state_path(broken).exists()
    with pytest.raises(BadInput, match="has recipe images 16, asked is 20"):
        run(job(small_checkpoint, small_pictures, broken, recipe=msgspec.structs.replace(RECIPE, images=20)))
    _, lines = run(job(small_checkpoint, small_pictures, broken))
    assert "Taken up after epoch 1 of 3" in "\n".join(lines)
    assert not any(line.startswith("epoch 0/") for line in lines)
    assert broken.read_bytes() == whole.read_bytes()
    assert load_file(whole).keys() == load_file(small_checkpoint).keys()


def test_weights_that_break_are_found_though_int8_hides_them(
    captured: Captured, calibration: Calibration, small_checkpoint: Path, small_pictures: Path, tmp_path: Path
) -> None:
    """NaN clamps to a number of 8 bits, so the loss may look well."""
    with pytest.raises(Diverged, match=r"epoch 1: train again .* an `lr` below 1e\+38"):
        run(job(small_checkpoint, small_pictures, tmp_path / "x.safetensors", lr=1e38))
    made = job(small_checkpoint, small_pictures, tmp_path / "x.safetensors")
    simulation = Simulation(captured, calibration, CPU)
    settings, data = made.settings, load_all(made.data, made.preprocess)
    training = Training(captured.checkpoint.network(), settings, made.preprocess, data, CPU, forward=simulation)
    step = training.step

    def breaking(images: torch.Tensor, labels: torch.Tensor, rate: float) -> Any:
        result = step(images, labels, rate)
        with torch.no_grad():
            training.network.get_parameter("features.0.1.weight")[0] = math.nan
        return result

    training.step = breaking  # type: ignore[method-assign]
    with pytest.raises(Diverged):
        training.run_epoch(lambda _: None)


def test_other_classes_and_one_class_are_refused(small_checkpoint: Path, small_pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "x.safetensors"
    for names, match in (
        (("blue", "green"), r"No folder for: red\. Unknown folder: green\."),
        (("red",), "one class only"),
    ):
        folder = tmp_path / "-".join(names)
        for name in names:
            (folder / name).mkdir(parents=True)
            for picture in list((small_pictures / "red").iterdir())[:10]:
                (folder / name / picture.name).write_bytes(picture.read_bytes())
        with pytest.raises(BadInput, match=match):
            run(job(small_checkpoint, folder, out))
    assert not out.parent.exists()


def test_a_state_of_float_training_is_not_taken_up(small_checkpoint: Path, small_pictures: Path) -> None:
    asked = job(small_checkpoint, small_pictures, Path("x.safetensors")).settings
    saved = msgspec.structs.replace(asked, qat=None, recipe=None)
    with pytest.raises(BadInput, match=r"has qat None, asked is [0-9a-f]{64}"):
        check_same(asked, saved)
    with pytest.raises(BadInput, match=r"has qat [0-9a-f]{64}, asked is None"):
        check_same(saved, asked)
