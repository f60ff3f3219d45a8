"""A whole training: read the pictures, train or take up again, write the checkpoint."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch import nn

from edge_apps import progress
from edge_apps.files import check_writable
from edge_apps.images import ImageSet
from edge_apps.runtime.preprocess import Preprocess
from pipeline.checkpoints import checkpoint, user_networks
from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.checkpoints.fitting import as_stored
from pipeline.checkpoints.pretrained.finetuning import start_from
from pipeline.data.class_counts import class_counts
from pipeline.data.classes import absent_classes, check_every_class, check_trainable, coverage, matched
from pipeline.data.hashes import ImageHashes, hash_images
from pipeline.data.reading import Pixels, digest, load_all
from pipeline.errors import BadInput
from pipeline.graphs.normalise import Normalise
from pipeline.graphs.prepare import export_network
from pipeline.training.batch_norm import OtherStatistics
from pipeline.training.hardware import bf16_fault, choose_device, choose_precision
from pipeline.training.head import CHECKED_IMAGES, PROBABILITIES_WARNING, gives_probabilities
from pipeline.training.knowledge import about_gap, about_guessing, is_gap
from pipeline.training.loop import EpochResult, Forward, Training, as_it_is, count_correct, epoch_seed
from pipeline.training.settings import Settings, check_same
from pipeline.training.state import read_state, save_state, state_path
from pipeline.zoo.spec import ModelSpec
from pipeline.zoo.units.training_heads import training_heads

MEASURED = 5000
"""Training images that the saved network is measured on, at most: enough for ± 1.4 points."""

VERSIONS = ("edge-pipeline", "torch", "numpy", "opencv-python-headless", "scikit-learn")


@dataclass(frozen=True)
class Job:
    """What to train, on what, and where to. ``skipped`` (corrupt pictures) and ``command`` are only recorded.

    ``weights`` are what it starts from, instead of at random. With a recipe in the settings they are a trained
    checkpoint whose int8 files shall be better: it is trained on with int8 simulated, and stays what it is otherwise.
    """

    spec: ModelSpec
    settings: Settings
    data: ImageSet
    val: ImageSet | None
    out: Path
    dtype: torch.dtype
    device: str
    restart: bool
    skipped: tuple[str, ...]
    command: str
    weights: Checkpoint | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """Those of the data; a trained checkpoint keeps its own (which name ImageNet's folders in words)."""
        return self.data.classes if self.tuned is None else self.tuned.labels

    @property
    def preprocess(self) -> Preprocess:
        """Pictures are stretched to the input, and normalised as the weights are used to."""
        side = self.settings.input
        if self.tuned is not None:
            return self.tuned.preprocess
        if self.weights is None:
            return Preprocess(height=side, width=side)
        return Preprocess(height=side, width=side, mean=self.weights.preprocess.mean, std=self.weights.preprocess.std)

    @property
    def tuned(self) -> Checkpoint | None:
        """The trained checkpoint of a quantization-aware training."""
        return None if self.settings.recipe is None else self.weights


@dataclass(frozen=True)
class Trained:
    """The result: the last epoch, how many images the written weights get right, and what to warn of, a line each.

    ``on_training`` is of training images as they are (not augmented), ``correct`` of the validation images,
    ``int8_correct`` of these in quantization-aware training, with int8 simulated.
    """

    last: EpochResult
    on_training: Measured
    correct: int | None
    int8_correct: int | None = None
    warnings: tuple[str, ...] = ()


class Measured(msgspec.Struct, frozen=True):
    """How many of some images the saved network classifies as labelled."""

    images: int
    correct: int

    def __str__(self) -> str:
        """As ``97.67% (42 of 43)``."""
        return f"{self.correct / self.images:.2%} ({self.correct} of {self.images})"


def train(job: Job) -> Trained:
    """Train and write ``job.out``; an interrupted training of the same settings is taken up after its last epoch.

    Raises:
        BadInput: data of one class, a class without an image, unknown classes in the validation data, a saved state of
            other settings, an unwritable folder. BadImage: a corrupt picture. Diverged: the loss became NaN; the last
            state is kept.
    """
    job.spec.check_input(job.settings.input, job.settings.options)
    check_trainable(job.data)
    images = matched(job.data, job.labels)
    check_every_class(images)
    held_out = None if job.val is None else matched(job.val, job.labels)
    device, path = choose_device(job.device), state_path(job.out)
    check_writable(job.out)
    if job.restart:
        path.unlink(missing_ok=True)
    saved = read_state(path)
    if saved is not None:
        check_same(job.settings, saved.settings)
    data, hashes = load_all(images, job.preprocess), _hashes(job)
    val = None if held_out is None else load_all(held_out, job.preprocess)
    torch.manual_seed(epoch_seed(job.settings.seed, job.settings.epochs))  # epochs draw from 0 … epochs − 1
    network, forward = _start(job, device)
    if user_networks.is_foreign(job.spec.name) and gives_probabilities(
        network, data.images[:CHECKED_IMAGES], job.preprocess
    ):
        progress.note(PROBABILITIES_WARNING)
    heads = None if job.tuned is not None else training_heads(network, job.settings.input)
    settings, reason = (saved.settings, "as before") if saved else _decided(job, network, data, device)
    training = Training(network, settings, job.preprocess, data, device, heads, forward)
    _announce(job)
    progress.note(
        f"{settings.model}, {len(data):,} pictures of {len(job.data.classes)} classes at "
        f"{settings.input}×{settings.input}; {device.type}, threads: {torch.get_num_threads()}, "
        f"{settings.precision} ({reason})."
    )
    if saved is not None:
        saved.restore(training)
        progress.note(f"Taken up after epoch {training.epochs_done} of {settings.epochs}, from '{path}'.")
    _epochs(training, path, val, job.preprocess)
    trained = _write(job, training, data, val, hashes)
    path.unlink(missing_ok=True)
    for warning in trained.warnings:
        progress.note(f"Warning: {warning}")
    return trained


def _announce(job: Job) -> None:
    """Print the classes and how many images each has, so that a wrong folder is seen before hours of training.

    Called when nothing can be refused any more: an error stays one line.
    """
    progress.note(f"Training on {class_counts(job.data)}.")
    if job.val is None:
        return
    progress.note(f"Validating on {class_counts(job.val)}.")
    for line in coverage(job.val, job.labels):
        progress.note(line)


def _start(job: Job, device: torch.device) -> tuple[nn.Module, Forward]:
    """The network before its first step, and how it computes its logits."""
    recipe = job.settings.recipe
    if job.tuned is not None and recipe is not None:
        from pipeline.training.quantization import simulate

        simulation, notes = simulate(job.tuned, job.data, recipe, device)
        progress.note(
            "\n".join([*notes, f"Starts from {job.tuned.path.name}; int8 is simulated, with {recipe.weights} weights."])
        )
        return job.tuned.network(), simulation
    network = job.spec.build(len(job.labels), **job.settings.options)
    if user_networks.is_reference(job.spec.name):
        for pictures in (1, 2):  # devices give one, training gives batches
            user_networks.check_logits(network, job.spec.name, len(job.labels), job.preprocess, pictures)
        export_network(network, job.preprocess)  # what cannot be captured is found out before the training, not after
    if job.weights is not None:
        new = start_from(network, job.weights)
        progress.note(f"Starts from {job.weights.path.name}; at random: {', '.join(new) or 'nothing'}.")
    return network, as_it_is


def _decided(job: Job, network: nn.Module, data: Pixels, device: torch.device) -> tuple[Settings, str]:
    """The settings with a precision, and why it is this one.

    Raises:
        BadInput: bf16 is asked for, and the network cannot be trained in it.
    """
    asked = job.settings.precision
    if asked == "fp32":
        return job.settings, "as asked"
    if job.tuned is not None:
        return msgspec.structs.replace(job.settings, precision="fp32"), "int8 is simulated in it"
    batch = Normalise(job.preprocess)(torch.from_numpy(data.images[: job.settings.batch_size])).to(device)
    on_device: nn.Module = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if asked == "bf16":
        fault = bf16_fault(on_device, batch)
        if fault is not None:
            raise BadInput(f"`precision=bf16` was asked for, but {fault}: use `precision=fp32` or auto.")
        return job.settings, "as asked"
    precision, reason = choose_precision(on_device, batch)
    return msgspec.structs.replace(job.settings, precision=precision), reason


def _epochs(training: Training, path: Path, val: Pixels | None, preprocess: Preprocess) -> None:
    """Train what is left, saving the state after each epoch."""
    epochs, steps, before = training.settings.epochs, training.steps_per_epoch, training.epochs_done
    start = time.monotonic()
    if training.settings.recipe is not None and val is not None and not before:
        progress.note(f"epoch 0/{epochs}  val {_share_correct(training, val, preprocess):.2%}")
    done, total = before * steps, epochs * steps
    with progress.track("", total) as task:
        task.at(done, total)
        for number in range(before + 1, epochs + 1):

            def on_step(loss: float, number: int = number) -> None:
                nonlocal done
                done += 1
                task.at(done, total, f"epoch {number}/{epochs}, loss {loss:.3f}")

            result = training.run_epoch(on_step)
            save_state(path, training)
            line = f"epoch {number}/{epochs}  loss {result.loss:.4f}  lr {result.lr:.2e}  train {result.top1:.2%}"
            if val is not None:
                line += f"  val {_share_correct(training, val, preprocess):.2%}"
            spent = (time.monotonic() - start) / 60
            left = spent / (number - before) * (epochs - number)
            progress.note(f"{line}  {spent:.1f} min, about {left:.1f} min left")


def _share_correct(training: Training, val: Pixels, preprocess: Preprocess) -> float:
    """The accuracy that the network would be saved with now."""
    return training.count_correct(training.result(), val, preprocess) / len(val)


def _write(job: Job, training: Training, data: Pixels, val: Pixels | None, hashes: Sequence[ImageHashes]) -> Trained:
    """Write the averaged network, and with it how it was made and how good it is."""
    network = copy.deepcopy(training.average.network)
    network.load_state_dict(as_stored(network.state_dict(), job.dtype))  # judged as it will be read
    training.reestimate(network)  # last: the statistics belong to the weights as they are stored
    trained = _measured(job, training, network, data, val)
    checkpoint.save(
        job.out,
        network,
        spec=job.spec,
        options=job.settings.options,
        labels=job.labels,
        preprocess=job.preprocess,
        training=_record(job, training, trained, hashes) | _result(job, trained.correct, trained.int8_correct),
        dtype=job.dtype,
    )
    return trained


def _measured(job: Job, training: Training, network: nn.Module, data: Pixels, val: Pixels | None) -> Trained:
    """Measure the network that will be written, and find what to warn of."""
    correct = None if val is None else count_correct(network, job.preprocess, val, training.device)
    int8 = None if val is None or job.tuned is None else training.count_correct(network, val, job.preprocess)
    some = _some(data, training.settings.seed)
    on_training = Measured(len(some), count_correct(network, job.preprocess, some, training.device))
    warnings = [about_guessing(on_training.correct, some.labels.tolist(), job.labels, job.data.name)]
    if job.val is not None and val is not None and correct is not None:
        warnings.append(about_guessing(correct, val.labels.tolist(), job.labels, job.val.name))
    # As it computes in training: with --qat that is with int8 simulated.
    again = training.count_correct(network, some, job.preprocess) if job.tuned else on_training.correct
    learnt = training.history[-1].top1
    other = training.other_statistics(network) if is_gap(again, len(some), learnt) else OtherStatistics()
    warnings.append(about_gap(again, len(some), learnt, training.settings.ema, other))
    return Trained(training.history[-1], on_training, correct, int8, tuple(filter(None, warnings)))


def _some(data: Pixels, seed: int) -> Pixels:
    """Training images to measure the saved network on, drawn by chance where there are many."""
    chosen = np.random.default_rng(seed).permutation(len(data))[:MEASURED]
    return Pixels(data.images[chosen], data.labels[chosen])


def _record(job: Job, training: Training, trained: Trained, hashes: Sequence[ImageHashes]) -> dict[str, Any]:
    return {
        "command": job.command,
        "data": job.data.name,
        "images": len(job.data),
        "skipped": list(job.skipped),
        "settings": msgspec.to_builtins(training.settings),
        "earlier_data": [] if job.weights is None else list(job.weights.training_sets),
        "device": training.device.type,
        "threads": torch.get_num_threads(),
        checkpoint.HASHES: msgspec.to_builtins(hashes),
        "versions": {package: version(package) for package in VERSIONS},
        "last_epoch": msgspec.to_builtins(trained.last),
        "on_training": msgspec.to_builtins(trained.on_training),
        "warnings": list(trained.warnings),
    }


def _hashes(job: Job) -> list[ImageHashes]:
    """Of the images of this training and of those that it started from, each set once."""
    earlier = () if job.weights is None else job.weights.hashes
    new = hash_images(job.data)
    return [new, *(hashes for hashes in earlier if hashes.data != new.data)]


def _result(job: Job, correct: int | None, int8_correct: int | None) -> dict[str, Any]:
    val = job.val
    if val is None or correct is None:
        return {}
    top1 = correct / len(val)
    result = {"data": val.name, "sha256": digest(val), "images": len(val), "correct": correct, "top1": top1}
    int8 = {} if int8_correct is None else {"int8_correct": int8_correct, "int8_top1": int8_correct / len(val)}
    absent = absent_classes(val, job.labels)
    return {"val": result | int8 | ({"absent_classes": list(absent)} if absent else {})}
