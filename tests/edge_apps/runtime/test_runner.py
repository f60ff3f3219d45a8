"""Finding the runtime for a file, and every way in which there is none. Needs no runtime."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edge_apps.errors import BadInput, BadManifest
from edge_apps.runtime import registry
from edge_apps.runtime.content import Content
from edge_apps.runtime.manifest import FileManifest, parse_file_manifest
from edge_apps.runtime.runner import check_batch, check_outputs, known_suffixes, open_runner, register_runner

ABOUT = {
    "format": 1,
    "model": "mobilenet_v2",
    "options": {},
    "target": "tflite",
    "precision": "int8",
    "labels": ["cat", "dog"],
    "preprocess": {"height": 8, "width": 10},
    "provenance": {"checkpoint_sha256": "00"},
}


@pytest.fixture
def manifest() -> FileManifest:
    return parse_file_manifest(json.dumps(ABOUT), Path("m.tflite"))


def test_every_runtime_is_found() -> None:
    assert known_suffixes() == (".mlpackage", ".pte", ".tflite")


@pytest.mark.parametrize("name", ["model.onnx", "model", "model.TFLITE", ".pte"])
def test_a_suffix_without_a_runtime(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(BadInput) as error:
        open_runner(Content.read(tmp_path / name))
    suffix = Path(name).suffix
    assert f"no runtime for '{suffix}'. Known: .mlpackage, .pte, .tflite." in str(error.value)


@pytest.mark.parametrize("suffix", [".tflite", ".pte"])
def test_a_folder_is_no_model_file(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip({".tflite": "ai_edge_litert", ".pte": "executorch"}[suffix])
    (tmp_path / f"m{suffix}").mkdir()
    with pytest.raises(BadInput, match=f"m{suffix}' is a folder; a {suffix} model is one file"):
        open_runner(Content.read(tmp_path / f"m{suffix}"))


@pytest.mark.parametrize("threads", [0, -1])
def test_no_threads(tmp_path: Path, threads: int) -> None:
    with pytest.raises(BadInput, match=f"threads is {threads}; at least 1 is needed"):
        open_runner(Content(tmp_path / "m.tflite", {"": b""}), threads)


def test_a_runtime_is_given_the_file_and_its_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known_suffixes()
    monkeypatch.setattr(registry, "_factories", dict(registry._factories))
    register_runner(".mine", lambda content, threads: (content, threads))  # type: ignore[arg-type,return-value]
    content = Content(tmp_path / "m.mine", {"": b"bytes"})
    assert open_runner(content) == (content, 1)
    assert open_runner(content, 3) == (content, 3)
    assert ".mine" in known_suffixes()


@pytest.mark.parametrize("suffix", [".pte", ".mlpackage"])
def test_only_tflite_leaves_xnnpack_to_whoever_runs_it(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(BadInput, match=f"cannot be run without XNNPACK: for {suffix} that was decided when"):
        open_runner(Content(tmp_path / f"m{suffix}", {"": b""}), xnnpack=False)


NO_RUNTIME = """
import sys
for blocked in sys.argv[3:]:
    sys.modules[blocked] = None
from pathlib import Path
from edge_apps.errors import MissingExtra
from edge_apps.runtime.content import Content
from edge_apps.runtime.runner import open_runner
try:
    open_runner(Content.read(Path(sys.argv[1])))
except MissingExtra as error:
    assert error.exit_status == 2
    assert sys.argv[2] in str(error), error
    print(error)
"""


@pytest.mark.parametrize(
    ("suffix", "command", "blocked"),
    [
        (".tflite", "pip install '.[litert]'", ["ai_edge_litert", "tflite_runtime"]),
        (".pte", "run 'edge-camera setup executorch' once", ["torch"]),
        (".pte", "pip install --no-deps executorch", ["executorch"]),
    ],
)
def test_a_missing_runtime_names_the_command(tmp_path: Path, suffix: str, command: str, blocked: list[str]) -> None:
    path = tmp_path / f"m{suffix}"
    path.write_bytes(b"whatever")
    result = subprocess.run(
        [sys.executable, "-c", NO_RUNTIME, str(path), command, *blocked],
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},  # where nothing was built
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("\n") == 1


@pytest.mark.parametrize(
    "batch",
    [
        np.zeros((1, 8, 10, 3), np.float32),
        np.zeros((1, 8, 10, 3), np.int8),
        np.zeros((8, 10, 3), np.uint8),
        np.zeros((1, 10, 8, 3), np.uint8),
        np.zeros((1, 3, 8, 10), np.uint8),
        np.zeros((1, 8, 10, 1), np.uint8),
    ],
    ids=lambda batch: f"{batch.dtype}{list(batch.shape)}",
)
def test_anything_but_raw_bytes_of_the_right_size(manifest: FileManifest, batch: np.ndarray) -> None:
    with pytest.raises(BadInput) as error:
        check_batch(batch, manifest)
    said = f"Input is {batch.dtype} {list(batch.shape)}; 'mobilenet_v2' takes uint8 [N, 8, 10, 3]."
    assert str(error.value) == said


@pytest.mark.parametrize("count", [0, 1, 7])
def test_any_number_of_pictures(manifest: FileManifest, count: int) -> None:
    check_batch(np.zeros((count, 8, 10, 3), np.uint8), manifest)


def test_as_many_logits_as_labels(manifest: FileManifest) -> None:
    check_outputs(2, manifest, Path("m.tflite"))
    for outputs in (1, 3):
        with pytest.raises(BadManifest, match=f"'m.tflite' computes {outputs} logits but names 2 labels"):
            check_outputs(outputs, manifest, Path("m.tflite"))
