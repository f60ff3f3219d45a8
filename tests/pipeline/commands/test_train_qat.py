"""``pipeline train --qat`` as it is typed."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from edge_apps.runtime.preprocess import Preprocess
from pipeline.checkpoints import checkpoint, user_networks
from pipeline.checkpoints.load import load
from pipeline.cli import main

Run = Callable[..., tuple[int, str, str]]

QUICK = shlex.split("--epochs 1 --batch-size 8 --threads 1 --calibration-size 8 --observer minmax")

pytestmark = pytest.mark.usefixtures("small_family")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run ``pipeline train …``; exit status, stdout, stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as done:
            main(["train", *map(str, arguments)])
        said = capsys.readouterr()
        return int(str(done.value.code)), said.out, said.err

    return run


def test_the_checkpoint_says_what_it_is_and_the_recorded_command_repeats_it(
    small_checkpoint: Path, small_pictures: Path, tmp_path: Path, run: Run
) -> None:
    out = tmp_path / "qat.safetensors"
    recipe = ["--scales", "per-tensor", "--repair", "equalize"]
    status, said, notes = run(
        "--qat", small_checkpoint, "--data", small_pictures, "--val", small_pictures, *QUICK, *recipe, "--out", out
    )
    assert status == 0
    assert "of 40) with int8 simulated" in said
    assert [line.split()[1] for line in notes.splitlines() if line.startswith("epoch")] == ["0/1", "1/1"]
    settings = load(out).training["settings"]
    assert (settings["lr"], settings["qat"]) == (1e-4, load(small_checkpoint).sha256)
    assert (settings["recipe"]["weights"], settings["recipe"]["repairs"]) == ("per-tensor", ["equalize"])
    first, command = load_file(out), shlex.split(load(out).training["command"])
    assert command[:4] == ["pipeline", "train", "--data", str(small_pictures)]
    out.unlink()
    assert run("small", "--input", 32, *command[2:])[0] == 0  # what it knows may be said too
    assert all(torch.equal(tensor, load_file(out)[name]) for name, tensor in first.items())


OWN = """
from torch import nn

def build(num_classes):
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes))
"""


def test_your_own_network_is_trained_when_it_is_named(small_pictures: Path, tmp_path: Path, run: Run) -> None:
    (tmp_path / "net.py").write_text(OWN)
    reference, source, out = f"{tmp_path}/net.py:build", tmp_path / "own.safetensors", tmp_path / "qat.safetensors"
    spec = user_networks.find(reference)
    checkpoint.save(
        source,
        spec.build(2),
        spec=spec,
        options={},
        labels=("blue", "red"),
        preprocess=Preprocess(height=32, width=32),
        training={},
    )
    arguments = ["--qat", source, "--data", small_pictures, *QUICK, "--out", out]
    status, _, notes = run(*arguments)
    assert status == 2
    assert "is of your own network: name it, as in 'pipeline train …/net.py:build --qat …'" in notes
    assert run(reference, *arguments)[0] == 0
    moved = load(out, model=reference)
    assert moved.spec.name == "net.py:build"
    assert not torch.equal(moved.state["0.weight"], load_file(source)["0.weight"])


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["--weights", "imagenet"], "leave one of them out"),
        (["--precision", "bf16"], "bf16 is no finer than the int8"),
        (["--repair", "equalize,adaround"], "trains the weights that adaround would repair"),
        (["--scales", "per-row"], "--scales"),
        (["--calibration-size", "0"], "images is 0"),
        (["--calibration-size", "41"], "asks for 41 images but the data has 40"),
        (["--qat", "BUILTIN", "--width", "0.9"], "but {'width': 0.9} was given: leave it out"),
        (["--input", "64"], "says preprocess input 32×32, but input 64×64 was given"),
        (["--qat", "missing.safetensors"], "Cannot read checkpoint 'missing.safetensors'"),
        (["--qat", "bare.safetensors"], "does not say what it is: export it first"),
        (["--out", "SOURCE", "--force"], "--out is the checkpoint of --qat"),
    ],
)
def test_contradictions_are_one_line_and_leave_nothing(
    small_checkpoint: Path,
    small_pictures: Path,
    tmp_path: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    match: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    save_file(nn.Linear(2, 2).state_dict(), "bare.safetensors")
    places = {"SOURCE": str(small_checkpoint), "BUILTIN": str(checkpoint.builtin())}
    given = [places.get(word, word) for word in arguments]
    before = small_checkpoint.read_bytes()
    defaults = ["--qat", small_checkpoint, "--data", small_pictures, "--epochs", 1, "--out", "x.safetensors"]
    status, said, notes = run(*defaults, *given)
    assert (status, said) == (2, "")
    assert match in notes
    assert len(notes.splitlines()) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["bare.safetensors"]
    assert small_checkpoint.read_bytes() == before


def test_a_program_cannot_be_trained(small_pictures: Path, tmp_path: Path, run: Run) -> None:
    program = tmp_path / "program.pt2"
    torch.export.save(torch.export.export(nn.Linear(2, 2).eval(), (torch.zeros(1, 2),)), program)
    given = ["--qat", program, "--data", small_pictures, "--epochs", 1, "--out", tmp_path / "x.safetensors"]
    status, said, notes = run(*given)
    assert (status, said, len(notes.splitlines())) == (2, "", 1)
    assert "is an exported program, which cannot be trained" in notes
    assert [file.name for file in tmp_path.iterdir()] == ["program.pt2"]


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ([], "Missing MODEL"),
        (["mobilenet_v2", "--qat", "SOURCE"], "says model 'small', but 'mobilenet_v2' was given"),
        (["small", "--scales", "per-tensor"], "say what --qat simulates: give --qat"),
        (["small", "--repair", "equalize"], "say what --qat simulates: give --qat"),
    ],
)
def test_a_model_or_a_checkpoint(
    small_checkpoint: Path, small_pictures: Path, tmp_path: Path, run: Run, arguments: list[str], match: str
) -> None:
    given = [str(small_checkpoint) if word == "SOURCE" else word for word in arguments]
    status, said, notes = run(
        *given, "--data", small_pictures, "--epochs", 1, "--input", 32, "--out", tmp_path / "x.safetensors"
    )
    assert (status, said) == (2, "")
    assert match in notes
    assert len(notes.splitlines()) == 1
    assert not list(tmp_path.iterdir())
