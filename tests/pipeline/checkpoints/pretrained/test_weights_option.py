"""``--weights imagenet`` on train and export, with a server that has a published file of random weights."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from edge_apps.runtime.preprocess import Preprocess
from pipeline import zoo
from pipeline.checkpoints.load import load
from pipeline.checkpoints.pretrained.finetuning import start_from
from pipeline.checkpoints.pretrained.published import Published, sets_of
from pipeline.commands.options.checkpoint import published_weights
from pipeline.data import imagenet
from pipeline.errors import BadInput
from pipeline.training.settings import Settings, check_same

SPEC = zoo.get("squeezenet_1_1")


@pytest.fixture(scope="module")
def state(torchvision_models) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return torchvision_models.squeezenet1_1().state_dict()


@pytest.fixture
def row(server, state, tmp_path, monkeypatch) -> Published:
    """The one published set, as if these random weights had been published."""
    torch.save(state, tmp_path / "random.pth")
    data = (tmp_path / "random.pth").read_bytes()
    url = f"https://example.invalid/squeezenet1_1-{hashlib.sha256(data).hexdigest()[:8]}.pth"
    made = replace(sets_of("squeezenet_1_1")[0], url=url, resize_to=40, size=36, mean=(0.5, 0.4, 0.3))
    monkeypatch.setattr("pipeline.checkpoints.pretrained.published.PUBLISHED", (made,))
    server.files[made.file] = data
    return made


@pytest.fixture
def pictures(small_pictures, tmp_path) -> Path:
    """Two of ImageNet's folders."""
    for name, wordnet_id in zip(("blue", "red"), imagenet.wordnet_ids()[7:9], strict=True):
        shutil.copytree(small_pictures / name, tmp_path / "set" / wordnet_id)
    return tmp_path / "set"


@pytest.mark.usefixtures("fake_family")
def test_export_downloads_and_records(pipeline, row, state, server, pictures, tmp_path):
    given = ["--data", pictures, "--target", "fake", "--precision", "fp32", "--calibration-size", 8]
    done = pipeline("export", "squeezenet_1_1", "--weights", "imagenet", *given, "--out", tmp_path / "b", "--json")
    assert done.status == 0, done.err
    assert f"Downloading {server.url}/{row.file}" in done.err
    assert "Preprocessing of torchvision IMAGENET1K_V1 (its file, by sha256)" in done.err
    manifest = json.loads(done.out)
    assert tuple(manifest["labels"]) == imagenet.labels()
    assert manifest["preprocess"]["trained_with"] == {
        "library": "torchvision", "interpolation": "bilinear", "antialias": True, "resize_to": 40,
    }  # fmt: skip
    inside = load(tmp_path / "b" / "float" / "checkpoint.safetensors")
    assert inside.preprocess == row.preprocess
    assert inside.sha256.startswith(row.sha256_start)
    assert inside.training["imported"]["url"] == row.url
    assert all(torch.equal(tensor, state[name]) for name, tensor in inside.state.items())
    server.files.clear()
    again = pipeline("export", "squeezenet_1_1", "--weights", "imagenet", *given, "--out", tmp_path / "c")
    assert again.status == 0, again.err
    assert "Downloading" not in again.err


def test_calibrate_takes_them_too(pipeline, row, pictures, tmp_path):
    del row
    out = tmp_path / "ranges.json"
    given = ["--data", pictures, "--calibration-size", 8, "--out", out]
    done = pipeline("calibrate", "squeezenet_1_1", "--weights", "imagenet", *given)
    assert done.status == 0, done.err
    assert json.loads(out.read_text())["preprocess"]["resize_to"] == 40


def test_pictures_of_unknown_classes_are_refused(pipeline, row, small_pictures, tmp_path):
    del row
    given = ["--data", small_pictures, "--target", "tflite", "--out", tmp_path / "b"]
    said = pipeline("export", "squeezenet_1_1", "--weights", "imagenet", *given).error()
    assert "are not those of the network. No folder for: tench" in said
    assert "Unknown folders: blue, red." in said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["squeezenet_1_1", "--weights", "cifar"], "--weights is 'cifar'; allowed: imagenet, or imagenet:SET"),
        (["squeezenet_1_1", "--weights", "imagenet:"], "--weights is 'imagenet:'"),
        (["squeezenet_1_1", "--weights", "imagenet:V9"], "No weights 'V9' are published for 'squeezenet_1_1'"),
        (["squeezenet_1_0", "--weights", "imagenet"], "No ImageNet weights are published for 'squeezenet_1_0'"),
        (["squeezenet", "--weights", "imagenet"], "Unknown model 'squeezenet'"),
        (["--weights", "imagenet"], "--weights are those of a model: name it"),
        (["squeezenet_1_1", "--weights", "imagenet", "--input", "64"], "leave --model, --labels, --input"),
        (["squeezenet_1_1", "--weights", "imagenet", "--bypass", "simple"], "have bypass none, but simple was given"),
        (
            ["squeezenet_1_1", "--weights", "imagenet", "--base-expand", "64"],
            r"do not fit base_expand 64: leave that out",
        ),
    ],
)
def test_wrong_use_is_one_line(pipeline, row, tmp_path, arguments, says):
    del row
    given = ["--data", tmp_path, "--out", tmp_path / "b", "--target", "tflite"]
    assert says in pipeline("export", *arguments, *given).error()
    assert not (tmp_path / "b").exists()


def test_no_network_is_one_line_and_exit_1(pipeline, row, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGE_PIPELINE_WEIGHTS_URL", "http://127.0.0.1:9")
    given = ["--weights", "imagenet", "--data", tmp_path, "--out", tmp_path / "b"]
    said = pipeline("export", "squeezenet_1_1", *given).error(1)
    assert said.startswith(f"Error: Cannot download http://127.0.0.1:9/{row.file}: ")


def test_train_starts_from_them(pipeline, row, small_pictures, tmp_path):
    out = tmp_path / "x.safetensors"
    given = ["--data", small_pictures, "--epochs", 1, "--batch-size", 8, "--input", 36, "--precision", "fp32"]
    done = pipeline("train", "squeezenet_1_1", "--weights", "imagenet", *given, "--lr", "1e-9", "--out", out)
    assert done.status == 0, done.err
    assert f"Starts from {row.file}; at random: classifier.1.weight, classifier.1.bias." in done.err
    trained = load(out)
    assert trained.labels == ("blue", "red")
    assert trained.preprocess == Preprocess(height=36, width=36, mean=(0.5, 0.4, 0.3))
    assert trained.training["settings"]["weights"] == row.file
    published = published_weights("imagenet", SPEC, {})
    assert all(
        torch.allclose(tensor, published.state[name], atol=1e-5)
        for name, tensor in trained.state.items()
        if not name.startswith("classifier")
    )


def test_only_another_number_of_classes_makes_a_new_classifier(row):
    del row
    weights = published_weights("imagenet", SPEC, {})
    same, other = SPEC.build(1000), SPEC.build(3)
    fresh = other.state_dict()["classifier.1.weight"].clone()
    assert start_from(same, weights) == ()
    assert all(torch.equal(tensor, weights.state[name]) for name, tensor in same.state_dict().items())
    assert start_from(other, weights) == ("classifier.1.weight", "classifier.1.bias")
    assert torch.equal(other.state_dict()["classifier.1.weight"], fresh)
    assert torch.equal(other.state_dict()["features.0.weight"], weights.state["features.0.weight"])


def test_a_training_from_other_weights_is_not_taken_up():
    fields = {
        "model": "m", "options": {}, "input": 32, "data": "", "epochs": 1, "batch_size": 2, "optimizer": "sgd",
        "lr": 0.1, "weight_decay": 0.0, "schedule": "cosine", "label_smoothing": 0.0, "ema": 0.0, "seed": 0,
        "augment": "none", "precision": "fp32",
    }  # fmt: skip
    with pytest.raises(BadInput, match="has weights None, asked is a-12345678.pth"):
        check_same(Settings(**fields, weights="a-12345678.pth"), Settings(**fields))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "Missing --data: int8 files are calibrated on images"),
        (["--data", ".", "--calibration-size", "0"], "Recipe: "),
        (["--data", ".", "--precision", "fp32", "--observer", "minmax"], "are for int8 files, and none is asked for"),
        (["--data", ".", "--ranges", "no.json"], "no.json"),
        (["--data", "."], "'squeezenet_1_1-bundle' exists"),
        (["--data", ".", "--out", "taken"], "'taken' exists"),
        (["--data", ".", "--out", "new", "--squeeze-ratio", "0.5"], "do not fit squeeze_ratio 0.5: leave that out"),
        (["--data", ".", "--out", "new", "--bypass", "simple"], "have bypass none, but simple was given"),
    ],
)
@pytest.mark.usefixtures("fake_family")
def test_nothing_is_downloaded_before_the_rest_is_right(pipeline, row, server, tmp_path, monkeypatch, arguments, says):
    del row
    monkeypatch.chdir(tmp_path)
    for name in ("squeezenet_1_1-bundle", "taken"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    asked = ["export", "squeezenet_1_1", "--weights", "imagenet", "--target", "fake", *arguments]
    assert says in pipeline(*asked).error()
    assert server.asked == []


def test_calibrate_checks_its_recipe_before_the_download(pipeline, row, server, tmp_path):
    del row
    given = ["--data", tmp_path, "--calibration-size", 0, "--out", tmp_path / "r.json"]
    assert "Recipe: " in pipeline("calibrate", "squeezenet_1_1", "--weights", "imagenet", *given).error()
    assert server.asked == []
