"""``import-weights``: what it refuses, in one line. That it computes the same is in ``weights/test_importing.py``."""

from __future__ import annotations

import zipfile

import pytest
import torch

from pipeline import zoo
from pipeline.checkpoints.load import load


@pytest.fixture
def source(tmp_path):
    """SqueezeNet's own names are torchvision's."""
    path = tmp_path / "x.pth"
    torch.save(zoo.get("squeezenet_1_1").build(3).state_dict(), path)
    return path


@pytest.fixture
def labels(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("ant\nbee\ncat\n")
    return path


def test_labels_and_preprocessing_are_recorded(pipeline, source, labels, tmp_path):
    out = tmp_path / "new" / "y.safetensors"
    done = pipeline("import-weights", source, "--as", "squeezenet_1_1", "--labels", labels, "--out", out)
    assert done.status == 0, done.err
    assert f"{out}: squeezenet_1_1, 3 classes." in done.out
    assert "(assumed, the file is none that was published): shorter side to 256 (bilinear, antialiased)" in done.out
    loaded = load(out)
    assert loaded.labels == ("ant", "bee", "cat")
    assert (loaded.preprocess.resize, loaded.preprocess.resize_to, loaded.preprocess.height) == ("crop", 256, 224)
    assert loaded.training["imported"] == {
        "file": "x.pth",
        "spelling": "torchvision",
        "preprocessing_of": "torchvision IMAGENET1K_V1",
        "left_out": [],
    }


def test_a_file_is_not_replaced_without_being_asked(pipeline, source, labels, tmp_path):
    out = tmp_path / "y.safetensors"
    given = ["import-weights", source, "--as", "squeezenet_1_1", "--labels", labels, "--out", out]
    assert pipeline(*given).status == 0
    before = out.read_bytes()
    assert "exists: choose another --out" in pipeline(*given).error()
    assert pipeline(*given, "--force").status == 0
    assert out.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["x.pth", "--as", "squeezenet_1_1", "--out", "y.safetensors"], "tells 3 classes apart"),
        (["x.pth", "--as", "squeezenet_1_1", "--out", "y.pth"], "a checkpoint's name ends in .safetensors"),
        (["x.pth", "--as", "squeezenet_1_1", "--out", "x.pth/y.safetensors"], "Cannot write 'x.pth/y.safetensors'"),
        (["no.pth", "--as", "squeezenet_1_1", "--out", "y.safetensors"], "Cannot read checkpoint 'no.pth'"),
        ([".", "--as", "squeezenet_1_1", "--out", "y.safetensors"], "is a folder"),
        (["empty.pth", "--as", "squeezenet_1_1", "--out", "y.safetensors"], "is not a state dict"),
        (["cut.pth", "--as", "squeezenet_1_1", "--out", "y.safetensors"], "is not a state dict"),
        (["m.pt2", "--as", "squeezenet_1_1", "--out", "y.safetensors"], "needs no import: 'pipeline export' reads it"),
        (["x.pth", "--as", "squeezenet_1_2", "--out", "y.safetensors"], "Did you mean 'squeezenet_1_"),
        (["x.pth", "--as", "resnet18", "--out", "y.safetensors"], "no 'resnet18' in a known spelling"),
        (["x.pth", "--as", "alexnet", "--out", "y.safetensors"], "Weights of others cannot be imported as 'alexnet'"),
        (["x.pth", "--as", "squeezenet_1_1", "--set", "V7", "--out", "y.safetensors"], "Unknown weight set 'V7'"),
        (["x.pth", "--as", "squeezenet_1_1", "--width", "0.5", "--out", "y.safetensors"], "has no option 'width'"),
    ],
)
def test_wrong_use_is_one_line(pipeline, source, tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.pth").touch()
    with zipfile.ZipFile(tmp_path / "m.pt2", "w") as archive:
        archive.writestr("m/archive_format", "pt2")
    (tmp_path / "cut.pth").write_bytes(source.read_bytes()[:5000])
    assert says in pipeline("import-weights", *arguments).error()
    assert not list(tmp_path.glob("**/*.safetensors"))
