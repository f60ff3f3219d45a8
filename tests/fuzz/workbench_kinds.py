"""What the workbench reads from outside; needs torch."""

from __future__ import annotations

import io
import json
import random
import struct
from pathlib import Path
from typing import Any

from checksums import safetensors_with_header, zip_with_damage_inside
from kinds import Kind
from mutations import mutated, mutated_json, mutated_toml


def _checkpoints() -> list[bytes]:
    import torch
    from safetensors.torch import save

    torch.set_num_threads(1)
    state = {"features.0.weight": torch.zeros(2, 3), "features.0.bias": torch.ones(2)}
    training = {"model": state, "epoch": 3, "betas": (0.9, 0.999), "history": [0.5, 0.25]}
    found = []
    for content, is_zip in ((state, True), (training, True), (training, False)):
        stream = io.BytesIO()
        torch.save(content, stream, _use_new_zipfile_serialization=is_zip)
        found.append(_with_fixed_keys(stream.getvalue(), state))
    about = {
        "format": 1, "model": "mobilenet_v1", "options": {}, "classes": 2, "labels": ["a", "b"],
        "preprocess": {"height": 32, "width": 32}, "training": {"epochs": 3},
    }  # fmt: skip
    return [*found, save(state, {"edge_pipeline": json.dumps(about)})]


def _with_fixed_keys(data: bytes, state: dict[str, Any]) -> bytes:
    """Name the storages of a file from before torch 1.6 by numbers; torch takes their addresses."""
    for number, tensor in enumerate(state.values()):
        address = str(tensor.untyped_storage()._cdata).encode()
        data = data.replace(struct.pack("<I", len(address)) + address, struct.pack("<I", 3) + b"%03d" % number)
    return data


def _checkpoint(chance: random.Random, corpus: list[bytes]) -> bytes:
    kind = chance.randrange(3)
    if kind == 0:
        return zip_with_damage_inside(chance, corpus[chance.randrange(2)])
    return safetensors_with_header(chance, corpus[3]) if kind == 1 else mutated(chance, corpus)


def _read_checkpoint(data: bytes, folder: Path) -> None:
    from pipeline.checkpoints.load import read

    path = folder / "it.pt"
    path.write_bytes(data)
    read(path)


def _programs() -> list[bytes]:
    import torch
    from torch import nn

    from pipeline.checkpoints import pt2_archive

    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x.mean((2, 3)))

    torch.set_num_threads(1)
    torch.manual_seed(0)
    free = torch.export.Dim("batch", min=1, max=8)
    program = torch.export.export(Small().eval(), (torch.zeros(2, 3, 4, 4),), dynamic_shapes=({0: free},))
    return [pt2_archive.write(program, "{}")]


def _program(chance: random.Random, corpus: list[bytes]) -> bytes:
    return zip_with_damage_inside(chance, corpus[0]) if chance.random() < 0.7 else mutated(chance, corpus)


def _read_program(data: bytes, _: Path) -> None:
    from pipeline.checkpoints import pt2_archive

    pt2_archive.read(data, "it")


def _ranges() -> list[bytes]:
    from calibration.dataset.dataset import CalibrationImage, CalibrationSet
    from calibration.ranges import Range, Ranges
    from calibration.recipe import Recipe
    from edge_apps.runtime.preprocess import Preprocess

    chosen = CalibrationSet(source="x", how="y", seed=0, images=(CalibrationImage("a.jpg", "a", "ab" * 32),))
    values = {"features.0:conv2d:0": Range(-1.0, 2.5), "input": Range(0.0, 1.0)}
    about = {"checkpoint_sha256": "ab" * 32, "preprocess": Preprocess(height=8, width=8), "recipe": Recipe(images=4)}
    return [Ranges(**about, calibration_set=chosen, values=values, observers={"input": "mse"}).to_json()]


def _read_ranges(data: bytes, folder: Path) -> None:
    from calibration.ranges import load_ranges

    path = folder / "it.json"
    path.write_bytes(data)
    load_ranges(path)


def _recipes() -> list[bytes]:
    text = """
observer = "percentile"
percentile = 99.9
averaging = 0.2
weights = "per-tensor"
repairs = ["equalize", "bias"]
images = 64
choice = "feature-coverage"
seed = 3
batch = 8
float_layers = ["classifier.*", "features.1*"]
observers = {"features.3:*" = "minmax"}
"""
    return [text.strip().encode()]


def _read_recipe(data: bytes, folder: Path) -> None:
    from calibration.recipe import load_recipe

    path = folder / "it.toml"
    path.write_bytes(data)
    load_recipe(path).observer_of("features.3.conv:conv2d:0")


def _labels() -> list[bytes]:
    return ["cat\ndog\nbird\n".encode(encoding) for encoding in ("utf-8", "utf-8-sig", "utf-16")]


def _read_labels(data: bytes, folder: Path) -> None:
    from pipeline.data.label_file import read_labels

    path = folder / "it.txt"
    path.write_bytes(data)
    read_labels(path)


KINDS = {
    "archives": Kind(_checkpoints, _checkpoint, _read_checkpoint),
    "programs": Kind(_programs, _program, _read_program),
    "ranges": Kind(_ranges, mutated_json, _read_ranges),
    "recipes": Kind(_recipes, mutated_toml, _read_recipe),
    "labels": Kind(_labels, mutated, _read_labels),
}
