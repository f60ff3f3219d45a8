"""The operator at which a file departs, in files whose exporter is wrong at one that is known."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from calibration.recipe import Recipe
from edge_apps.images import open_images
from edge_apps.runtime.manifest import FileManifest
from pipeline.data.held_back import judged_images
from pipeline.exporting.departure import Departure, first_departure
from pipeline.exporting.file_manifest import file_manifest
from pipeline.exporting.references import References
from pipeline.quantization.calibrate import calibrate, draw
from pipeline.quantization.captured import Captured
from pipeline.targets.base import Source

aten = torch.ops.aten


@dataclass
class WrongAt:
    """A fake target that clamps to 0…0.1 in the place of the ReLU at one path."""

    fake: Any
    path: str

    @property
    def suffix(self) -> str:
        return str(self.fake.suffix)

    def lower(self, source: Source, manifest: FileManifest, path: Path) -> tuple[str, ...]:
        network: Any = copy.deepcopy(source.network)
        for node in network.nodes:
            if node.target == aten.relu.default and node.meta["path"] == self.path:
                node.target, node.args = aten.hardtanh.default, (node.args[0], 0.0, 0.1)
        written: tuple[str, ...] = self.fake.lower(Source(network, source.ranges), manifest, path)
        return written


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("wrong", ["1", "5", "9", "nowhere"])
def test_the_first_operator(
    capture_of: Callable[..., Captured],
    fake_target: Any,
    fake_runtime: Callable[..., None],
    small_pictures: Path,
    precision: Any,
    wrong: str,
) -> None:
    torch.manual_seed(0)
    blocks = (layer for _ in range(4) for layer in (nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()))
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)
    )
    with torch.no_grad():
        for layer in network[:10:2]:
            layer.weight.mul_(2)
    captured = capture_of(network.eval())
    images, recipe = open_images(small_pictures), Recipe(observer="minmax")
    ranges = calibrate(captured, draw(captured, images, recipe), recipe).ranges if precision == "int8" else None
    judged = judged_images(images, captured.checkpoint.preprocess, 0, None)
    references = References(captured, captured, ranges, judged)
    fake_runtime()
    manifest = file_manifest(captured.checkpoint, "fake", precision, ranges, "logits")
    steps: list[None] = []
    found = first_departure(WrongAt(fake_target(), wrong), manifest, references, lambda: steps.append(None))  # type: ignore[arg-type]
    assert found == (None if wrong == "nowhere" else Departure(wrong, "relu"))
    assert len(steps) <= 5
