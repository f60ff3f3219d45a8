"""A whole training, from pictures to a checkpoint that says where it comes from."""

import dataclasses
import functools
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from recorder import Recorder
from safetensors.torch import load_file

from edge_apps.images import FileImages, open_images, write_png
from edge_apps.progress import shown_by
from pipeline import zoo
from pipeline.checkpoints.load import load
from pipeline.data.hashes import hash_images
from pipeline.data.reading import load_all
from pipeline.errors import BadImage, BadInput
from pipeline.evaluation.inference import run_network
from pipeline.training.job import train

ARGUMENTS = shlex.split(
    "--epochs 40 --input 32 --width 0.1 --batch-size 8 --precision fp32 --device cpu --threads 1 --ema 0.9"
)
"""What the fixture ``job`` says by default, as it is typed."""


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path / "set")


def make_folder(root, count=12):
    """Two classes that differ in colour."""
    chance = np.random.default_rng(0)
    for i in range(count):
        place = root / ("blue", "red")[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        picture = chance.integers(0, 120, (32, 32, 3), np.uint8)
        picture[:, :, 2 if i % 2 == 0 else 0] += 130
        write_png(place / f"{i}.png", picture)
    return root


def _train(job):
    """What came of it, and the lines it said."""
    recorder = Recorder()
    with shown_by(recorder):
        return train(job), recorder.notes


def test_the_checkpoint_records_what_made_it(folder, tmp_path, job):
    out = tmp_path / "new" / "x.safetensors"
    trained, lines = _train(job(folder, out, val=open_images(folder), skipped=("red/broken.png",)))
    made = load(out)
    record = made.training
    assert (made.spec.name, made.options, made.labels) == (
        "mobilenet_v2",
        zoo.get("mobilenet_v2").with_defaults({"width": 0.1}),
        ("blue", "red"),
    )
    assert (made.preprocess.height, made.preprocess.width, made.preprocess.resize) == (32, 32, "stretch")
    assert record["command"] == "pipeline train …"
    assert record["images"] == 12
    assert record["skipped"] == ["red/broken.png"]
    assert record["settings"]["epochs"] == 2
    assert record["versions"]["torch"] == torch.__version__
    assert made.hashes == (hash_images(open_images(folder)),)
    assert record["on_training"] == {"images": 12, "correct": trained.on_training.correct}
    assert record["val"]["correct"] == trained.correct
    assert lines[0] == "Training on 12 images of 2 classes: blue (6), red (6)."
    assert lines[1] == "Validating on 12 images of 2 classes: blue (6), red (6)."
    assert "12 pictures of 2 classes at 32×32; cpu, " in lines[2]
    assert "fp32 (as asked)" in lines[2]
    assert [p.name for p in out.parent.iterdir()] == ["x.safetensors"]


def test_the_recorded_accuracy_is_that_of_the_file(folder, tmp_path, job):
    """Counted again with OpenCV and the network that ``load`` gives."""
    out = tmp_path / "x.safetensors"
    trained, _ = _train(job(folder, out, val=open_images(folder), epochs=6, dtype=torch.float16))
    network, correct = load(out).network(), 0
    for label, name in enumerate(("blue", "red")):
        for file in (folder / name).iterdir():
            rgb = cv2.imread(str(file))[:, :, ::-1] / 255.0
            x = (rgb - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
            logits = network(torch.from_numpy(x.transpose(2, 0, 1)[None]).float())
            correct += int(logits.argmax()) == label
    assert trained.correct == correct
    assert load_file(out)["features.0.0.weight"].dtype == torch.float16


def test_the_same_settings_give_the_same_file(folder, tmp_path, job):
    for name in ("a", "b", "c"):
        _train(job(folder, tmp_path / f"{name}.safetensors", seed=int(name == "c")))
    first, second, other = ((tmp_path / f"{name}.safetensors").read_bytes() for name in "abc")
    assert first == second
    assert first != other


def test_data_that_cannot_be_trained_on_leave_nothing(folder, tmp_path, job):
    out = tmp_path / "out" / "x.safetensors"
    one = tmp_path / "one"
    (folder / "red").rename(one.mkdir() or one / "red")
    with pytest.raises(BadInput, match="one class only"):
        _train(job(one, out))
    (one / "red").rename(one / "rot")
    with pytest.raises(BadInput, match=r"No folder for: blue, red\. Unknown folder: rot\."):
        _train(job(make_folder(tmp_path / "two"), out, val=open_images(one)))
    make_folder(folder)
    next((folder / "red").iterdir()).write_bytes(b"broken")
    with pytest.raises(BadImage, match="red/"):
        _train(job(folder, out))
    assert not out.parent.exists() or not list(out.parent.iterdir())


def test_validation_data_may_lack_classes_which_is_said(folder, tmp_path, job):
    """Its only class, 'red', is class 1 of the network and class 0 of the data."""
    out, val = tmp_path / "x.safetensors", make_folder(tmp_path / "val")
    shutil.rmtree(val / "blue")
    trained, lines = _train(job(folder, out, val=open_images(val)))
    assert lines[1:3] == [
        "Validating on 6 images of 1 class: red (6).",
        f"'{val}' has no folder for 1 of 2 classes: blue. Nothing is measured on it.",
    ]
    made = load(out)
    pixels = load_all(open_images(val), made.preprocess).images
    answered = run_network(made.network(), made.preprocess, pixels, 1, lambda _: None).logits.argmax(1)
    assert made.training["val"]["absent_classes"] == ["blue"]
    assert trained.correct == sum(made.labels[index] == "red" for index in answered)
    assert trained.correct != 3, "a wrong index would count as many"


def test_a_class_without_a_usable_image_is_not_trained(folder, tmp_path, job):
    made = job(folder, tmp_path / "x.safetensors")
    green = FileImages(**{**vars(made.data), "classes": ("blue", "green", "red")})
    with pytest.raises(BadInput, match="no usable image of 'red': training needs images of every class"):
        _train(dataclasses.replace(made, data=green))


def test_an_unwritable_folder_is_found_before_training(folder, tmp_path, job):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="Cannot write"):
        _train(job(folder, tmp_path / "file" / "x.safetensors"))


@pytest.mark.usefixtures("one_thread")
def test_a_killed_training_loses_at_most_one_epoch(folder, tmp_path, job):
    """kill -9 in the middle; the second process takes up after the last epoch that was announced, or a later one."""
    made = functools.partial(job, folder, epochs=40, augment="flip-crop")
    killed, whole = tmp_path / "killed.safetensors", tmp_path / "whole.safetensors"
    code = "from pipeline.cli import main; main()"
    command = [sys.executable, "-u", "-c", code, "train", "mobilenet_v2", "--data", str(folder), *ARGUMENTS]
    with subprocess.Popen([*command, "--out", str(killed)], stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if line.startswith("epoch 3/"):
                break
        os.kill(process.pid, signal.SIGKILL)
        announced = 3 + sum(line.startswith("epoch ") for line in process.stderr)
    assert not killed.exists()
    _, lines = _train(made(out=killed))
    resumed = int(re.search(r"Taken up after epoch (\d+) of 40", lines[2])[1])
    assert announced <= resumed <= announced + 1
    _train(made(out=whole))
    assert load_file(killed).keys() == load_file(whole).keys()
    assert all(torch.equal(a, b) for a, b in zip(load_file(killed).values(), load_file(whole).values(), strict=True))
    assert sorted(p.name for p in tmp_path.glob("*safetensors*")) == ["killed.safetensors", "whole.safetensors"]
