"""``pipeline export`` with a real exporter, and in a process of its own."""

# ruff: noqa: ARG001 - fixtures that make the small family and the fake target known are asked for, not used

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edge_apps.camera.commands.main import main as edge_camera
from edge_apps.images import decode, write_png
from edge_apps.runtime.content import sha256_of
from edge_apps.runtime.manifest import load_bundle
from pipeline import zoo
from pipeline.cli import main
from pipeline.zoo.spec import ModelSpec

Run = Callable[..., Any]
CONFTEST = Path(__file__).parents[1] / "conftest.py"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def real(
    small_spec: ModelSpec, small_network: nn.Module, small_pictures: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A bundle of one ``.tflite``, from a state dict of others."""
    folder = tmp_path_factory.mktemp("real")
    torch.save(small_network.state_dict(), folder / "theirs.pt")
    (folder / "labels.txt").write_text("blue\nred\n")
    described = ["--model", "small", "--labels", str(folder / "labels.txt"), "--input", "32"]
    given = ["--data", str(small_pictures), "--target", "tflite", "--precision", "fp32", "--calibration-size", "8"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(zoo.specs(), small_spec.name, small_spec)
        with pytest.raises(SystemExit) as end:
            main(["export", str(folder / "theirs.pt"), *described, *given, "--out", str(folder / "bundle")])
    assert not end.value.code
    return folder / "bundle"


@pytest.fixture
def bundle(real: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(real, tmp_path / "bundle"))


@pytest.fixture
def other_pictures(small_pictures: Path, tmp_path: Path) -> Path:
    """Pictures that did not calibrate: those of the set, upside down."""
    root = tmp_path / "other"
    for path in small_pictures.rglob("*.png"):
        (root / path.parent.name).mkdir(parents=True, exist_ok=True)
        write_png(root / path.parent.name / path.name, np.ascontiguousarray(decode(path.read_bytes(), path.name)[::-1]))
    return root


def test_it_can_be_evaluated_against_the_state_dict_it_came_from(
    pipeline: Run,
    small_family: Any,
    bundle: Path,
    other_pictures: Path,
) -> None:
    ended = pipeline("evaluate", bundle, "--data", other_pictures, "--json", "--threads", 1)
    assert ended.status == 0, ended.err
    result = json.loads(ended.out)
    assert result["files"][0]["status"] == "run"
    assert result["files"][0]["comparison"]["agreement"] == 1.0
    assert result["reference"]["sha256"] == load_bundle(bundle).manifest.provenance.checkpoint_sha256
    assert not any("another checkpoint" in note for note in result["notes"])


@pytest.mark.parametrize("what", ["small-fp32.tflite", "float/checkpoint.safetensors"])
def test_a_file_changed_after_export_is_refused_by_evaluate(
    pipeline: Run,
    small_family: Any,
    bundle: Path,
    other_pictures: Path,
    what: str,
) -> None:
    with (bundle / what).open("ab") as stream:
        stream.write(b"\0")
    ended = pipeline("evaluate", bundle, "--data", other_pictures)
    assert f"{what}' was changed after export (sha256 " in ended.error()
    assert not (bundle / "evaluation.json").exists()


def test_a_file_changed_after_export_is_refused_by_the_camera(
    capfd: pytest.CaptureFixture[str], bundle: Path, small_pictures: Path
) -> None:
    with (bundle / "small-fp32.tflite").open("ab") as stream:
        stream.write(b"\0")
    for model in (bundle, bundle / "small-fp32.tflite"):
        with pytest.raises(SystemExit) as end:
            edge_camera(["run", "--model", str(model), "--source", f"folder:{small_pictures}"])
        said = capfd.readouterr()
        assert (end.value.code, said.out) == (2, "")
        assert "small-fp32.tflite' was changed after export (sha256 " in said.err
        assert said.err.count("\n") == 1


# --- in a process of its own ------------------------------------------------------------------------------------------

# The program with the small network in its zoo. A test run in a shell's background inherits an ignored Ctrl-C; the
# handler of a terminal is put back.
PROGRAM = f"""
import importlib.util, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
spec = importlib.util.spec_from_file_location("small_family", {str(CONFTEST)!r})
module = sys.modules["small_family"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
from pipeline import zoo
zoo.specs()["small"] = module.SMALL
module.main()
"""


@pytest.fixture
def start(
    small_checkpoint: Path, small_pictures: Path, place: Path, tmp_path: Path
) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """A real export to ``.tflite`` and its own temporary folder, in which nothing is left either."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    def run(*more: Any, **pipes: Any) -> subprocess.Popen[str]:
        given = ["--data", small_pictures, "--target", "tflite", "--calibration-size", 8, "--out", place / "b", *more]
        command = [sys.executable, "-c", PROGRAM, "export", small_checkpoint, *given]
        environment = {**os.environ, "TMPDIR": str(scratch)}
        return subprocess.Popen(list(map(str, command)), text=True, env=environment, **pipes)

    yield run
    assert [name for name in names(scratch) if not name.startswith("torchinductor_")] == []  # torch's own cache


@pytest.mark.parametrize(("at", "is_there"), [("[1/3]", False), ("[3/3]", True)])
def test_ctrl_c_in_the_middle(start: Any, bundle: Path, place: Path, at: str, is_there: bool) -> None:
    if is_there:
        shutil.copytree(bundle, place / "b")
    with start("--force", "--precision", "int8", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        seen = []
        for line in process.stderr:
            seen.append(line)
            if line.startswith(at):
                process.send_signal(signal.SIGINT)
        assert process.stdout.read() == ""
    assert process.returncode == 130, seen
    assert seen[-1] == "Error: Interrupted.\n"
    assert all(line.startswith("[") or line == "\n" for line in seen[:-1]), seen  # "\n": after the terminal's ^C
    assert names(place) == (["b"] if is_there else [])
    if is_there:
        assert sha256_of(place / "b") == sha256_of(bundle)


def test_on_a_terminal_there_is_a_bar_and_libraries_are_silent(start: Any, place: Path) -> None:
    ours, theirs = pty.openpty()
    with start("--precision", "fp32", "--json", stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        while chunk := read_terminal(ours):
            shown += chunk
        said = process.stdout.read()
    os.close(ours)
    assert process.returncode == 0, shown
    assert json.loads(said)["model"] == "small"
    text = shown.decode()
    assert "tflite fp32" in text
    assert "Capturing the network" in text
    assert "[1/3]" not in text  # that is for where there is no terminal
    for chatter in ("LiteRT", "Failed to load", "Warning", "INFO", "WARNING", "W1", "torchao"):
        assert chatter not in text, text
    assert names(place) == ["b"]


def read_terminal(descriptor: int) -> bytes:
    """What is there; nothing once the program has gone, which Linux tells as an error."""
    try:
        return os.read(descriptor, 65536)
    except OSError:
        return b""
