"""The Core ML runner with a stand-in for the two libraries of a Mac, and as it is everywhere else."""

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edge_apps.errors import BadInput, BadManifest, MissingExtra, NotRunHere
from edge_apps.runtime import coreml
from edge_apps.runtime.content import Content
from edge_apps.runtime.manifest import METADATA_NAME, parse_file_manifest
from edge_apps.runtime.runner import open_runner

ABOUT = {
    "format": 1,
    "model": "mobilenet_v2",
    "options": {},
    "target": "coreml",
    "precision": "int8",
    "labels": ["red", "green", "blue"],
    "preprocess": {"height": 8, "width": 10},
    "provenance": {"checkpoint_sha256": "00"},
}


class FakePicture:
    """What PIL makes of an array."""

    def __init__(self, pixels: np.ndarray) -> None:
        assert pixels.dtype == np.uint8
        assert pixels.shape == (8, 10, 3)
        self.pixels = pixels


class FakeModel:
    """Answers as a Core ML classifier does; its logits are the mean of each colour less 100."""

    said: str | None = json.dumps(ABOUT)
    outputs = 3

    def __init__(self, path: str) -> None:
        if (Path(path) / "broken").exists():
            raise RuntimeError("Error compiling model: no Manifest.json\nand more\nlines")
        self.user_defined_metadata = {} if self.said is None else {METADATA_NAME: self.said}

    def predict(self, inputs: dict[str, Any]) -> dict[str, Any]:
        assert list(inputs) == ["image"]
        logits = inputs["image"].pixels.mean(axis=(0, 1)).astype(np.float64)[: self.outputs] - 100
        shares = np.exp(logits) / np.exp(logits).sum()
        labels = ["red", "green", "blue"][: self.outputs]
        return {
            "softmax": dict(zip(labels, shares, strict=True)),
            "classLabel": labels[int(logits.argmax())],
            "logits": logits[None].astype(np.float32),
        }


@pytest.fixture
def mac(monkeypatch: pytest.MonkeyPatch) -> type[FakeModel]:
    """A Mac: coremltools and Pillow are there."""

    class Model(FakeModel):
        """Of this test alone."""

    tools: Any = ModuleType("coremltools")
    tools.models = SimpleNamespace(MLModel=Model)
    pillow: Any = ModuleType("PIL")
    pillow.Image = SimpleNamespace(fromarray=FakePicture)
    monkeypatch.setitem(sys.modules, "coremltools", tools)
    monkeypatch.setitem(sys.modules, "PIL", pillow)
    monkeypatch.setattr(coreml, "_system", lambda: "darwin")
    monkeypatch.setattr(coreml.importlib.metadata, "version", lambda name: f"0.{len(name)}")
    return Model


@pytest.fixture
def package(tmp_path: Path) -> Path:
    path = tmp_path / "m.mlpackage"
    path.mkdir()
    return path


@pytest.mark.usefixtures("mac")
def test_logits_are_those_of_the_output_of_that_name(package: Path) -> None:
    runner = open_runner(Content.read(package), threads=2)
    assert (runner.runtime, runner.path, runner.threads) == ("coremltools 0.11", package, 2)
    assert runner.manifest == parse_file_manifest(json.dumps(ABOUT), package)
    batch = np.random.default_rng(0).integers(0, 256, (4, 8, 10, 3), dtype=np.uint8)
    logits = runner.run(batch)
    assert (logits.dtype, logits.shape) == (np.float32, (4, 3))
    assert logits == pytest.approx(batch.mean(axis=(1, 2)) - 100, abs=1e-4)
    assert runner.run(batch[:0]).shape == (0, 3)
    runner.close()


@pytest.mark.parametrize("kind", ["probabilities", "independent-probabilities"])
def test_a_networks_own_probabilities_are_an_output_of_that_name(
    mac: type[FakeModel], package: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    mac.said = json.dumps({**ABOUT, "output": kind})
    monkeypatch.setattr(mac, "predict", lambda _self, _inputs: {"probabilities": np.array([[0.25, 0.5, 0.125]])})
    assert open_runner(Content.read(package)).run(np.zeros((1, 8, 10, 3), np.uint8)).tolist() == [[0.25, 0.5, 0.125]]


@pytest.mark.usefixtures("mac")
def test_other_bytes_are_refused(package: Path) -> None:
    with pytest.raises(BadInput, match=r"takes uint8 \[N, 8, 10, 3\]"):
        open_runner(Content.read(package)).run(np.zeros((1, 8, 8, 3), np.uint8))


def test_a_package_that_does_not_describe_itself(mac: type[FakeModel], package: Path) -> None:
    mac.said = None
    with pytest.raises(BadManifest, match=r"m\.mlpackage' does not describe itself"):
        open_runner(Content.read(package))
    mac.said = "{}"
    with pytest.raises(BadManifest, match=r"m\.mlpackage' cannot be read"):
        open_runner(Content.read(package))


@pytest.mark.usefixtures("mac")
def test_a_package_that_core_ml_cannot_load(package: Path) -> None:
    (package / "broken").touch()
    with pytest.raises(BadInput) as error:
        open_runner(Content.read(package))
    assert str(error.value) == (
        f"Core ML cannot load '{package}': Error compiling model: no Manifest.json. Export it again."
    )


def test_another_number_of_logits_than_labels(mac: type[FakeModel], package: Path) -> None:
    mac.outputs = 2
    with pytest.raises(BadManifest, match="computes 2 logits but names 3 labels"):
        open_runner(Content.read(package)).run(np.zeros((1, 8, 10, 3), np.uint8))


@pytest.mark.usefixtures("mac")
@pytest.mark.parametrize("absent", ["coremltools", "PIL"])
def test_a_mac_without_the_library(package: Path, monkeypatch: pytest.MonkeyPatch, absent: str) -> None:
    monkeypatch.setitem(sys.modules, absent, None)
    with pytest.raises(MissingExtra, match=rf"'{absent}' is not installed: pip install '.\[coreml\]'"):
        open_runner(Content.read(package))


@pytest.mark.parametrize("system", ["linux", "win32"])
def test_elsewhere_it_is_not_run(package: Path, monkeypatch: pytest.MonkeyPatch, system: str) -> None:
    """Without looking for the library, which can be installed on Linux too."""
    monkeypatch.setattr(coreml, "_system", lambda: system)
    monkeypatch.setitem(sys.modules, "coremltools", None)
    with pytest.raises(NotRunHere, match=r"'m\.mlpackage' is not run: Core ML exists on macOS only"):
        open_runner(Content.read(package))


def test_the_system_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "amiga")
    assert coreml._system() == "amiga"
