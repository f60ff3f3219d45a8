"""torchvision's networks as somebody's own: functional calls, hard-swish, concatenation, batch norms before layers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from edge_apps.runtime.preprocess import Preprocess
from pipeline.graphs.prepare import prepare

SIDE = 96
NAMES = ["mobilenet_v3_small", "resnet18", "densenet121", "shufflenet_v2_x0_5", "regnet_y_400mf"]


def lively(network: nn.Module) -> nn.Module:
    """With batch norms that have seen noise, and logits that differ from picture to picture."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
                nn.init.normal_(module.bias, std=0.1)
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 0.5  # MobileNetV3's 0.01 would leave the statistics at their start, and logits equal
        for _ in range(10):
            network(torch.randn(8, 3, SIDE, SIDE))
    return network.eval()


@pytest.mark.parametrize("name", NAMES)
def test_they_compute_the_same_and_no_batch_norm_is_left(torchvision_models: ModuleType, name: str) -> None:
    torch.manual_seed(0)
    network = lively(getattr(torchvision_models, name)(num_classes=5))
    prepared = prepare(network, Preprocess(height=SIDE, width=SIDE)).network
    # In float64: what float32 rounds in a network that was shown noise is as large as the limit.
    x = torch.randn(2, 3, SIDE, SIDE, dtype=torch.float64)
    with torch.no_grad():
        expected, answered = network.double()(x), prepared.double()(x)
    assert float((expected - answered).abs().max() / expected.abs().max()) <= 1e-5
    assert not {str(node.target).split(".")[1] for node in prepared.nodes if "aten." in str(node.target)} & {
        "batch_norm", "adaptive_avg_pool2d", "avg_pool2d", "hardswish", "hardsigmoid", "silu", "chunk", "transpose",
    }  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("name", ["mobilenet_v3_small", "resnet18"])
def test_they_run_whole_on_both_delegates(
    torchvision_models: ModuleType,
    small_pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pipeline: Callable[..., Any],
    name: str,
) -> None:
    package = tmp_path / f"package_of_{name}"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "nets.py").write_text(
        f"from torchvision.models import {name}\ndef build(num_classes): return {name}(num_classes=num_classes)\n"
    )
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    torch.save(lively(getattr(torchvision_models, name)(num_classes=2)).state_dict(), tmp_path / "w.pt")
    (tmp_path / "labels.txt").write_text("blue\nred\n")
    made = pipeline(
        "export", "w.pt", "--model", f"{package.name}.nets:build", "--labels", "labels.txt", "--input", SIDE,
        "--data", small_pictures, "--calibration-size", 40, "--target", "executorch,tflite", "--out", "bundle",
        "--require-delegated",
    )  # fmt: skip
    assert made.status == 0, made.err
    for file in json.loads((tmp_path / "bundle" / "manifest.json").read_text())["files"]:
        if file["role"] == "model":
            assert file["comparison"]["sqnr_float_db"] >= (60 if file["precision"] == "fp32" else 10), file
            assert file["comparison"].get("sqnr_graph_db", 200) >= 40, file
