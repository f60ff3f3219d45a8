"""``pipeline export`` of a network that ends in softmax: said, recorded, and shown by the camera as it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edge_apps.camera.inference.loop import Classifier
from edge_apps.camera.inference.model import open_model
from edge_apps.images import open_images
from edge_apps.runtime.manifest import load_bundle
from edge_apps.runtime.preprocess import to_batch
from pipeline.checkpoints.user_networks import own

SOURCE = """
import torch
from torch import nn


def build(classes=2):
    torch.manual_seed(0)
    body = [nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes)]
    return nn.Sequential(*body, {head})
"""


@pytest.mark.parametrize(
    ("head", "kind", "said"),
    [
        ("nn.Softmax(1)", "probabilities", "without a second softmax"),
        ("nn.Sigmoid()", "independent-probabilities", "without a softmax"),
        ("nn.Identity()", "logits", None),
    ],
)
def test_from_the_network_to_the_label_on_the_camera(
    pipeline: Callable[..., Any], small_pictures: Path, tmp_path: Path, head: str, kind: str, said: str | None
) -> None:
    source = tmp_path / "net.py"
    source.write_text(SOURCE.replace("{head}", head))
    network = own(f"{source}:build").build(2).eval()
    torch.save(network.state_dict(), tmp_path / "w.pt")
    (tmp_path / "labels.txt").write_text("blue\nred\n")
    described = ["--model", f"{source}:build", "--labels", tmp_path / "labels.txt", "--input", 32]
    asked = ["--target", "tflite", "--precision", "fp32", "--calibration-size", 8, "--out", tmp_path / "bundle"]
    ended = pipeline("export", tmp_path / "w.pt", *described, "--data", small_pictures, *asked)
    assert ended.status == 0, ended.err
    lines = [line for line in ended.out.splitlines() if line.startswith("The network's outputs are ")]
    assert len(lines) == (said is not None), ended.out
    assert said is None or said in lines[0]
    assert load_bundle(tmp_path / "bundle").manifest.output == kind

    opened = open_model(tmp_path / "bundle", None, None, 1)
    assert opened.runner.manifest.output == kind
    classifier = Classifier(opened, top_k=2)
    image = open_images(small_pictures).image(0)
    preprocess = opened.runner.manifest.preprocess
    pixels = to_batch([image], preprocess)
    normalised = (torch.from_numpy(pixels).float() / 255 - torch.tensor(preprocess.mean)) / torch.tensor(preprocess.std)
    with torch.no_grad():
        own_output = network(normalised.permute(0, 3, 1, 2))
    expected = (own_output.softmax(1) if kind == "logits" else own_output)[0].numpy()
    answer = classifier.answer(opened.runner.run(classifier.prepare(image))[0], 0)
    opened.runner.close()
    assert answer is not None
    shown = dict(answer[0])
    assert [shown["blue"], shown["red"]] == pytest.approx(expected.astype(np.float64).tolist(), abs=1e-4)
