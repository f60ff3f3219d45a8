"""Finding the runtime for a file, and every way in which there is none. Needs no runtime."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edge_apps.errors import BadInput, BadManifest, ChangedFile
from edge_apps.runtime import runner
from edge_apps.runtime.manifest import FileManifest, parse_file_manifest, sha256_of, size_of
from edge_apps.runtime.runner import check_batch, check_outputs, known_suffixes, model_files, open_runner

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


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Three files and a package; one file is not listed."""
    root = tmp_path / "bundle"
    (root / "m.mlpackage").mkdir(parents=True)
    (root / "m.mlpackage" / "weights").write_bytes(b"w")
    for name in ("m.tflite", "m.pte", "mine.tflite", "ranges.json"):
        (root / name).write_bytes(name.encode())
    files = [
        {"path": name, "role": role, "sha256": sha256_of(root / name), "bytes": size_of(root / name)}
        for name, role in (
            ("m.tflite", "model"),
            ("ranges.json", "ranges"),
            ("m.pte", "model"),
            ("m.mlpackage", "model"),
        )
    ]
    kept = ("format", "model", "options", "labels", "preprocess", "provenance")
    whole = {**{key: ABOUT[key] for key in kept}, "created": "2026-01-01T00:00:00Z", "files": files}
    (root / "manifest.json").write_text(json.dumps(whole))
    return root


def test_every_runtime_is_found() -> None:
    assert known_suffixes() == (".mlpackage", ".pte", ".tflite")


@pytest.mark.parametrize("name", ["model.onnx", "model", "model.TFLITE", ".pte"])
def test_a_suffix_without_a_runtime(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(BadInput) as error:
        open_runner(tmp_path / name)
    suffix = Path(name).suffix
    assert f"no runtime for '{suffix}'. Known: .mlpackage, .pte, .tflite." in str(error.value)


@pytest.mark.parametrize("suffix", [".tflite", ".pte", ".mlpackage"])
def test_a_missing_file(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(BadInput, match=f"No such file: '.*none{suffix}'"):
        open_runner(tmp_path / f"none{suffix}")


@pytest.mark.parametrize("suffix", [".tflite", ".pte"])
def test_a_folder_is_no_model_file(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip({".tflite": "ai_edge_litert", ".pte": "executorch"}[suffix])
    (tmp_path / f"m{suffix}").mkdir()
    with pytest.raises(BadInput, match=f"m{suffix}' is a folder; a {suffix} model is one file"):
        open_runner(tmp_path / f"m{suffix}")


@pytest.mark.parametrize("threads", [0, -1])
def test_no_threads(tmp_path: Path, threads: int) -> None:
    with pytest.raises(BadInput, match=f"threads is {threads}; at least 1 is needed"):
        open_runner(tmp_path / "m.tflite", threads)


def test_a_runtime_is_given_the_file_and_its_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known_suffixes()
    monkeypatch.setattr(runner, "_factories", dict(runner._factories))
    runner.register_runner(".mine", lambda path, threads: (path, threads))  # type: ignore[arg-type,return-value]
    (tmp_path / "m.mine").touch()
    assert open_runner(tmp_path / "m.mine") == (tmp_path / "m.mine", 1)
    assert open_runner(tmp_path / "m.mine", 3) == (tmp_path / "m.mine", 3)
    assert ".mine" in known_suffixes()


@pytest.mark.parametrize("suffix", [".pte", ".mlpackage"])
def test_only_tflite_leaves_xnnpack_to_whoever_runs_it(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"m{suffix}").touch()
    with pytest.raises(BadInput, match=f"cannot be run without XNNPACK: for {suffix} that was decided when"):
        open_runner(tmp_path / f"m{suffix}", xnnpack=False)


NO_RUNTIME = """
import sys
for blocked in sys.argv[3:]:
    sys.modules[blocked] = None
from pathlib import Path
from edge_apps.errors import MissingExtra
from edge_apps.runtime.runner import open_runner
try:
    open_runner(Path(sys.argv[1]))
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


def test_the_files_behind_a_name(bundle: Path, tmp_path: Path) -> None:
    names = ["m.tflite", "m.pte", "m.mlpackage"]
    assert model_files(bundle) == [bundle / name for name in names]
    for name in names:
        assert model_files(bundle / name) == [bundle / name]
    assert model_files(tmp_path / "alone.tflite") == [tmp_path / "alone.tflite"]
    with pytest.raises(BadInput, match=r"has no manifest\.json"):
        model_files(tmp_path)


def test_a_file_that_the_bundle_does_not_list_is_not_run_from_it(bundle: Path) -> None:
    (bundle / "m.pte").rename(bundle / "renamed.pte")
    with pytest.raises(ChangedFile, match=r"renamed\.pte' is not listed in the manifest"):
        model_files(bundle / "renamed.pte")


def test_a_manifest_of_something_else_is_no_bundles(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"name": "webapp"}')
    assert model_files(tmp_path / "m.tflite") == [tmp_path / "m.tflite"]


def test_a_changed_file_is_refused_by_its_own_name_and_by_its_bundles(bundle: Path) -> None:
    (bundle / "m.pte").write_bytes(b"M.pte")
    for path in (bundle, bundle / "m.pte"):
        with pytest.raises(ChangedFile, match=r"m\.pte' was changed after export \(sha256 .*will not be run"):
            model_files(path)
    assert model_files(bundle / "m.tflite") == [bundle / "m.tflite"]


def test_a_changed_package_is_refused(bundle: Path) -> None:
    (bundle / "m.mlpackage" / "weights").write_bytes(b"v")
    for path in (bundle, bundle / "m.mlpackage"):
        with pytest.raises(ChangedFile, match=r"m\.mlpackage' was changed after export"):
            model_files(path)
