"""``pipeline export`` as it is typed: what it writes, and what it will not do."""

# ruff: noqa: ARG001 - fixtures that make the small family and the fake target known are asked for, not used

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from edge_apps.runtime.content import sha256_of
from edge_apps.runtime.manifest import load_bundle
from pipeline.checkpoints.checkpoint import builtin

Run = Callable[..., Any]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- what it writes ---------------------------------------------------------------------------------------------------


def test_a_bundle_and_what_to_type_next(export: Run, place: Path) -> None:
    ended = export("--precision", "fp32,int8")
    assert ended.status == 0, ended.err
    assert "small-fp32.fake" in ended.out
    assert "small-int8.fake" in ended.out
    judged = "Judged on 10 images that calibrated nothing, by fake 1. So few images make the figures indicative."
    assert judged in ended.out
    assert ended.out.count("good") == 2
    assert ended.out.endswith(f"pipeline evaluate {place / 'b'} --data …\n")
    steps = ["[1/4] Capturing the network", "[2/4] Calibrating", "[3/4] fake fp32", "[4/4] fake int8"]
    few = "Warning: Only 8 calibration images: ranges from fewer than 32 depend much on the draw."
    assert ended.err.splitlines() == [*steps, "Calibrated on 8 of 40 images.", few]
    assert [file.path for file in load_bundle(place / "b").models()] == ["small-fp32.fake", "small-int8.fake"]
    assert names(place) == ["b"]


def test_json_is_the_manifest_and_nothing_else(export: Run, place: Path) -> None:
    ended = export("--json")
    assert json.loads(ended.out) == json.loads((place / "b" / "manifest.json").read_text())


def test_the_default_place_is_named_after_the_model(
    pipeline: Run, fake_family: Any, small_family: Any, small_checkpoint: Path, small_pictures: Path, place: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(place)
    arguments = ("--data", small_pictures, "--target", "fake", "--calibration-size", 8)
    assert pipeline("export", small_checkpoint, *arguments).status == 0
    assert names(place) == ["small-bundle"]


def test_names_with_brackets_are_shown_as_they_are(export: Run, place: Path, pictures: Path) -> None:
    """rich would take ``[red]`` for a colour."""
    (pictures / "blue" / "[red]a.png").write_bytes(b"broken")
    ended = export("--skip-corrupt", data=pictures, out=place / "[bold]b")
    assert ended.status == 0, ended.err
    assert "Note: Left out, corrupt: blue/[red]a.png" in ended.err
    assert f"Bundle {place}/[bold]b" in ended.out
    assert f"pipeline evaluate '{place}/[bold]b' --data" in ended.out


def test_default_precisions_skip_what_a_target_cannot_do_and_say_so(
    export: Run, fake_family: Any, pipeline: Run, small_checkpoint: Path, small_pictures: Path, place: Path
) -> None:
    fake_family(precisions=("fp32",))
    arguments = ("--data", small_pictures, "--calibration-size", 8, "--out", place / "b", "--target", "fake")
    ended = pipeline("export", small_checkpoint, *arguments)
    assert "Note: fake skips int8, which it cannot do." in ended.err
    assert [file.precision for file in load_bundle(place / "b").models()] == ["fp32"]
    shutil.rmtree(place / "b")
    assert "Target 'fake' cannot do precision 'int8'. It can: fp32." in export("--precision", "int8").error()
    assert names(place) == []


def test_without_a_checkpoint_the_built_in_one_is_used_and_named_first(
    pipeline: Run, fake_family: Any, place: Path
) -> None:
    arguments = ("--target", "fake", "--precision", "fp32", "--calibration-size", 10, "--out", place / "b")
    ended = pipeline("export", *arguments)
    assert ended.status == 0, ended.err
    assert "built-in mobilenet_v2 trained on handwritten digits" in ended.err.splitlines()[0]
    assert load_bundle(place / "b").manifest.labels == tuple("0123456789")


# --- wrong usage ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--target", "coreml2"], "Unknown target 'coreml2'. Did you mean 'coreml'?"),
        (["--target", "all,coreml2"], "Unknown target 'coreml2'"),
        (["--precision", "int4"], "Unknown precision 'int4'. Did you mean 'int8'?"),
        (["--precision", "int8-weights"], "Target 'fake' cannot do precision 'int8-weights'. It can: fp32, int8."),
        (["--recipe", "nowhere.toml"], "Cannot read recipe 'nowhere.toml'"),
        (["--observer", "magic", "--precision", "int8"], "'magic' is not one of 'minmax', 'moving-average'"),
        (["--repair", "equalise"], "allowed for repairs: equalize, adaround, bias"),
        (["--observer", "minmax"], "--ranges, --recipe, --observer, --scales and --repair are for int8 files"),
        (["--calibration-size", "0"], "images is 0; allowed: at least 1"),
        (["--calibration-size", "41", "--precision", "int8"], "Calibration asks for 41 images but the data has 40"),
        (["--seed", "-1"], "seed is -1; allowed: at least 0"),
        (["--ranges", "nowhere.json", "--precision", "int8"], "Cannot read ranges 'nowhere.json'"),
        (["--model", "mobilenet_v2"], "says model 'small', but 'mobilenet_v2' was given"),
        (["--input", "64"], "says preprocess"),
        (["--input", "0"], "--input"),
        (["--labels", "nowhere.txt"], "Cannot read labels 'nowhere.txt'"),
        (["--magic"], "No such option"),
    ],
)
def test_bad_options(export: Run, place: Path, more: list[str], says: str) -> None:
    assert says in export(*more).error()
    assert names(place) == []


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--target", ","], "No target given. Known: coreml, executorch, "),
        (["--target", "fake", "--precision", ""], "No precision given. Known: fp32, fp16, int8, int8-weights."),
        (["--width", "0.35"], "says options {'width': 1.0}, but {'width': 0.35} was given"),
        (["--input", "64"], "says preprocess"),
        (["--model", "mobilenet_v3"], "says what a CHECKPOINT is, and none is given"),
        (["mobilenet_v2", "--data", "digits"], "'mobilenet_v2' is a model without weights: give a checkpoint file"),
        (["nowhere.safetensors", "--data", "digits"], "Cannot read checkpoint 'nowhere.safetensors'"),
        ([str(builtin())], "Missing --data: int8 files are calibrated on images of the checkpoint's classes"),
        (["mobilenet_v2"], "'mobilenet_v2' is a model without weights: give a checkpoint file"),
        (["vgg16"], "'vgg16' is a model without weights: give a checkpoint file"),
    ],
)
def test_bad_usage_without_a_checkpoint_file(
    pipeline: Run, fake_family: Any, place: Path, monkeypatch: pytest.MonkeyPatch, given: list[str], says: str
) -> None:
    monkeypatch.chdir(place)
    assert says in pipeline("export", *given).error()
    assert names(place) == []


@pytest.mark.parametrize("package", ["litert_torch", "ai_edge_quantizer"])
def test_a_missing_package_of_a_target_names_the_pip_command(
    export: Run, place: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    error = export("--target", "tflite").error()
    assert f"Target 'tflite' cannot be exported: {package} not installed" in error
    assert "pip install '.[export]'" in error
    assert names(place) == []


@pytest.mark.parametrize("package", ["torch", "torchao"])
def test_a_device_without_the_export_extra(place: Path, package: str) -> None:
    code = f"import sys; sys.modules['{package}'] = None; from pipeline.cli import main; main()"
    command = [sys.executable, "-c", code, "export", "--target", "coreml", "--out", str(place / "b")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == (
        f"Error: This command needs {package}, which is not installed: "
        "pip install '.[export]' in a checkout of edge-pipeline.\n"
    )
    assert names(place) == []


# --- where it writes --------------------------------------------------------------------------------------------------


def test_a_place_that_cannot_be_written(export: Run, place: Path) -> None:
    (place / "file").touch()
    assert "Not a directory. Choose an --out that you can write to" in export(out=place / "file" / "b").error()
    assert names(place) == ["file"]


def test_a_bundle_is_replaced_only_when_told(export: Run, place: Path) -> None:
    int8 = ("--precision", "int8")
    assert export(*int8).status == 0
    before = (place / "b" / "manifest.json").read_bytes()
    assert "exists. Pass --force to replace it" in export(*int8, "--seed", 1).error()
    assert (place / "b" / "manifest.json").read_bytes() == before
    ended = export(*int8, "--seed", 1, "--force")
    assert ended.status == 0
    assert json.loads((place / "b" / "calibration-set.json").read_text())["seed"] == 1
    assert names(place) == ["b"]


def test_a_folder_that_is_no_bundle_is_never_replaced(export: Run, place: Path) -> None:
    (place / "b").mkdir()
    (place / "b" / "thesis.txt").write_text("precious")
    for more in ([], ["--force"]):
        assert "exists and is not a bundle: it is not replaced" in export(*more).error()
    assert (place / "b" / "thesis.txt").read_text() == "precious"
    assert names(place) == ["b"]


@pytest.mark.parametrize("is_there", [False, True])
def test_what_fails_in_the_middle_leaves_what_was(export: Run, fake_family: Any, place: Path, is_there: bool) -> None:
    before = None
    if is_there:
        assert export().status == 0
        before = sha256_of(place / "b")
    for fails, status, says in (
        (
            RuntimeError("no such kernel\nand more"),
            1,
            "the exporter failed with RuntimeError: no such kernel. Run with",
        ),
        (KeyboardInterrupt(), 130, "Interrupted."),
        (MemoryError(), 1, "the exporter failed with MemoryError: no reason given."),
    ):
        fake_family(fails=fails)
        assert says in export("--force").error(status)
        assert names(place) == (["b"] if is_there else [])
    if is_there:
        assert sha256_of(place / "b") == before


# --- ranges -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def ranges(pipeline: Run, small_family: Any, small_checkpoint: Path, small_pictures: Path, tmp_path: Path) -> Path:
    path = tmp_path / "ranges.json"
    arguments = ("--data", small_pictures, "--calibration-size", 16, "--observer", "minmax", "--out", path)
    assert pipeline("calibrate", small_checkpoint, *arguments).status == 0
    return path


@pytest.fixture
def with_ranges(
    pipeline: Run, fake_family: Any, small_checkpoint: Path, small_pictures: Path, place: Path, ranges: Path
) -> Run:
    def run(*more: Any, checkpoint: Path = small_checkpoint, ranges: Path = ranges) -> Any:
        given = ("--data", small_pictures, "--target", "fake", "--ranges", ranges, "--out", place / "b")
        return pipeline("export", checkpoint, *given, *more)

    return run


def test_ranges_of_a_file_are_those_of_the_bundle(with_ranges: Run, place: Path, ranges: Path) -> None:
    ended = with_ranges()
    assert ended.status == 0, ended.err
    assert "Calibrating" not in ended.err
    assert (place / "b" / "ranges.json").read_bytes() == ranges.read_bytes()
    assert 'observer = "minmax"' in (place / "b" / "recipe.toml").read_text()


def test_ranges_that_do_not_fit(with_ranges: Run, place: Path, small_checkpoint: Path, tmp_path: Path) -> None:
    from safetensors import safe_open

    other = tmp_path / "other.safetensors"
    with safe_open(small_checkpoint, "pt") as file:
        metadata = file.metadata()
    save_file({name: tensor + 1 for name, tensor in load_file(small_checkpoint).items()}, other, metadata)
    assert "run 'pipeline calibrate' for this checkpoint" in with_ranges(checkpoint=other).error()
    assert "--ranges come with their own recipe" in with_ranges("--seed", 3).error()
    assert "are for int8 files, and none is asked for" in with_ranges("--precision", "fp32").error()
    assert "is not a ranges file" in with_ranges(ranges=small_checkpoint).error()
    assert names(place) == []
