"""The networks that are kept, on real pictures: exported as a user would, held by the gate, and above what it cost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from calibration.dataset.sampling import ClassBalanced
from edge_apps.images import open_images, write_png

NETWORKS = Path(__file__).resolve().parents[3] / "docs" / "networks" / "cifar10"
FLOAT_TOP1 = {
    "efficientnet_b0": 80.0,
    "effnet": 79.0,
    "fd_mobilenet": 78.0,
    "mobilenet_v1": 78.0,
    "mobilenet_v2": 81.0,
    "resnet_cifar": 80.0,
    "shufflenet_v1": 80.0,
    "squeezenet_1_1": 69.0,
}
"""In %, of all 10,000 test pictures: docs/cifar10.md, rounded down."""


def exported(pipeline: Callable[..., Any], model: str, data: Path, out: Path, targets: str) -> Path:
    made = pipeline(
        "export", NETWORKS / f"{model}.safetensors", "--data", data / "train.tar", "--target", targets, "--out", out
    )
    assert made.status == 0, made.err
    return out


def test_the_kept_networks_are_those_that_are_tested() -> None:
    assert {path.stem for path in NETWORKS.iterdir()} == FLOAT_TOP1.keys()
    assert sum(path.stat().st_size for path in NETWORKS.iterdir()) < 30e6


def test_a_thousand_pictures(shared_data: Path, pipeline: Callable[..., Any], tmp_path: Path) -> None:
    """What all of them show takes minutes (``long``); these show a file that went wrong."""
    data = shared_data / "cifar10"
    images = open_images(data / "test.tar")
    for index in ClassBalanced(images.labels, 0).take(1000):
        path = tmp_path / "some" / images.classes[images.labels[index]] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_png(path, images.image(index))
    bundle = exported(pipeline, "resnet_cifar", data, tmp_path / "bundle", "tflite")
    ended = pipeline("gate", bundle, "--data", tmp_path / "some", "--max-drop", 3)
    assert ended.status == 0, ended.out


@pytest.mark.long
@pytest.mark.parametrize("model", FLOAT_TOP1)
def test_all_test_pictures(model: str, shared_data: Path, pipeline: Callable[..., Any], tmp_path: Path) -> None:
    """Half a point at most, one with its interval, in every file that runs here."""
    data = shared_data / "cifar10"
    bundle = exported(pipeline, model, data, tmp_path / "bundle", "executorch,tflite")
    ended = pipeline("gate", bundle, "--data", data / "test.tar", "--max-drop", 1, "--json")
    assert ended.status == 0, ended.out
    result = json.loads(ended.out)["evaluation"]
    assert 100 * result["reference"]["top1"] > FLOAT_TOP1[model]
    assert [file["comparison"]["drop_points"] <= 0.5 for file in result["files"]] == [True] * 4
