"""``pipeline train`` as it is typed."""

import shlex
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from edge_apps.images import open_images, write_png
from pipeline.checkpoints.load import load
from pipeline.cli import main
from pipeline.commands import train
from pipeline.training.settings import default_batch_size

SMALL = shlex.split("--input 32 --width 0.1 --batch-size 8 --precision fp32")


@pytest.fixture
def folder(tmp_path):
    chance = np.random.default_rng(0)
    for i in range(12):
        place = tmp_path / "set" / ("blue", "red")[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        write_png(place / f"{i}.png", chance.integers(0, 256, (32, 32, 3), np.uint8))
    return tmp_path / "set"


@pytest.fixture
def run(capsys):
    """Run ``pipeline train …``; exit status, stdout, stderr."""

    def run(*arguments):
        with pytest.raises(SystemExit) as done:
            main(["train", *map(str, arguments)])
        said = capsys.readouterr()
        return done.value.code, said.out, said.err

    return run


def test_it_trains_and_says_so(folder, tmp_path, run):
    out = tmp_path / "x.safetensors"
    status, said, notes = run("mobilenet_v2", "--data", folder, "--val", folder, "--epochs", 2, *SMALL, "--out", out)
    assert status == 0
    assert str(out) in said
    assert "of 12) on training images" in said
    assert f"{folder}: top-1" in said
    assert "unknown" not in said
    assert [line.split()[1] for line in notes.splitlines() if line.startswith("epoch")] == ["1/2", "2/2"]
    record = load(out).training
    saved = record["on_training"]["correct"]
    assert f"{out}: top-1 {saved / 12:.2%} ({saved} of 12) on training images" in said
    assert record["settings"]["augment"] == "flip-crop"
    assert shlex.split(record["command"])[:3] == ["pipeline", "train", "mobilenet_v2"]
    assert "--width 0.1 --batch-size 8 --precision fp32" in record["command"]
    assert "--seed" not in record["command"]


@pytest.mark.parametrize(("head", "warned"), [("nn.Softmax(1)", True), ("nn.Identity()", False)])
def test_a_network_that_returns_probabilities_is_warned_of(folder, tmp_path, run, head, warned):
    source = tmp_path / "net.py"
    source.write_text(
        "from torch import nn\n"
        "def build(classes=2):\n"
        "    body = [nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes)]\n"
        f"    return nn.Sequential(*body, {head})\n"
    )
    arguments = shlex.split("--input 32 --batch-size 8 --precision fp32 --epochs 1 --augment none")
    status, _, notes = run(f"{source}:build", "--data", folder, *arguments, "--out", tmp_path / "x.safetensors")
    assert status == 0
    lines = [line for line in notes.splitlines() if "returns probabilities" in line]
    assert len(lines) == warned
    assert all(line.startswith("Warning: ") for line in lines)


def test_the_recorded_command_makes_the_same_weights(folder, tmp_path, run):
    out = tmp_path / "x.safetensors"
    arguments = ["mobilenet_v2", "--data", folder, "--epochs", 1, *SMALL, "--seed", 7, "--optimizer", "sgd"]
    assert run(*arguments, "--dtype", "fp16", "--skip-corrupt", "--out", out, "--force")[0] == 0
    first, command = load_file(out), load(out).training["command"]
    assert "--force" not in command
    assert "--skip-corrupt" in command
    out.unlink()
    assert run(*shlex.split(command)[2:])[0] == 0
    assert all(torch.equal(tensor, load_file(out)[name]) for name, tensor in first.items())


def test_a_folder_with_train_and_val_is_read_as_such(folder, tmp_path, run):
    """Never two classes called train and val."""
    (tmp_path / "data").mkdir()
    shutil.copytree(folder, tmp_path / "data" / "val")
    data = folder.rename(tmp_path / "data" / "train").parent
    (data / "train" / "red" / "x.heic").write_bytes(b"\0\0\0\x18ftypheic")
    out = tmp_path / "x.safetensors"
    status, said, notes = run("mobilenet_v2", "--data", data, "--val", data, "--epochs", 1, *SMALL, "--out", out)
    assert status == 0
    assert notes.splitlines()[:5] == [
        f"'{data}' is divided into 'train', 'val': reading '{data}/train'.",
        "Passed over 1 HEIC file (first: 'train/red/x.heic'): only JPEG, PNG, WebP and BMP are read; convert them.",
        f"'{data}' is divided into 'train', 'val': reading '{data}/val'.",
        "Training on 12 images of 2 classes: blue (6), red (6).",
        "Validating on 12 images of 2 classes: blue (6), red (6).",
    ]
    assert f"{data}/val: top-1" in said
    record = load(out).training
    assert (record["data"], record["val"]["data"]) == (f"{data}/train", f"{data}/val")
    assert load(out).trained_on(open_images(data / "train"))


@pytest.mark.parametrize(
    ("images", "size"), [(2, 8), (43, 8), (63, 8), (64, 16), (511, 64), (512, 128), (1097, 128), (50_000, 128)]
)
def test_the_batch_size_suits_small_data(images, size):
    assert default_batch_size(images) == size
    assert images < 32 or images // size >= 4


class _FarEnough(BaseException):
    """Stops a command where the test has seen what it wanted."""


def test_digits_are_not_flipped(monkeypatch):
    jobs = []

    def train_nothing(job):
        jobs.append(job)
        raise _FarEnough

    monkeypatch.setattr("pipeline.training.job.train", train_nothing)
    with pytest.raises(_FarEnough):
        main(
            ["train", "mobilenet_v2", "--data", "digits", "--val", "digits", "--epochs", "1", "--out", "x.safetensors"]
        )
    assert (jobs[0].data.name, jobs[0].val.name) == ("digits:train", "digits:test")
    settings = jobs[0].settings
    assert (settings.augment, settings.input, settings.lr, settings.weight_decay) == ("affine", 224, 3e-3, 0.05)
    assert settings.batch_size == 128


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["mobilenet_v3"], "Did you mean 'mobilenet_v2'"),
        (["mobilenet_v2", "--width", "9"], "Option --width is 9.0; allowed 0.1 to 4.0"),
        (["mobilenet_v2", "--input", "16"], "Input size is 16"),
        (["mobilenet_v2", "--input", "0"], "Input size is 0"),
        (["mobilenet_v2", "--epochs", "0"], "--epochs"),
        (["mobilenet_v2", "--batch-size", "1"], "--batch-size"),
        (["mobilenet_v2", "--lr", "0"], "--lr"),
        (["mobilenet_v2", "--data", "nowhere"], "No such folder or tar: 'nowhere'"),
        (["mobilenet_v2", "--out", "x.pt"], "ends in .safetensors"),
        (["mobilenet_v2", "--device", "cuda"], "no GPU"),
        (["mine.pt2"], "'mine.pt2' is an exported program, which cannot be trained"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(folder, tmp_path, run, monkeypatch, arguments, match):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.chdir(tmp_path)
    defaults = ["--data", folder, "--epochs", 1, *SMALL, "--out", "x.safetensors"]
    status, said, notes = run(arguments[0], *defaults, *arguments[1:])
    assert (status, said) == (2, "")
    assert match in notes
    assert len(notes.splitlines()) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_an_existing_checkpoint_is_kept_unless_forced(folder, tmp_path, run):
    out = tmp_path / "x.safetensors"
    out.write_bytes(b"precious")
    arguments = ["mobilenet_v2", "--data", folder, "--epochs", 1, *SMALL, "--out", out]
    status, _, notes = run(*arguments)
    assert (status, out.read_bytes()) == (2, b"precious")
    assert "--force" in notes
    assert run(*arguments, "--force")[0] == 0
    assert load(out).labels == ("blue", "red")


def test_corrupt_pictures_stop_it_or_are_listed(folder, tmp_path, run):
    (folder / "red" / "1.png").write_bytes(b"broken")
    arguments = ["mobilenet_v2", "--data", folder, "--epochs", 1, *SMALL, "--out", tmp_path / "x.safetensors"]
    status, _, notes = run(*arguments)
    assert status == 2
    assert "red/1.png" in notes
    assert "--skip-corrupt" in notes
    status, _, notes = run(*arguments, "--val", folder, "--skip-corrupt")
    assert status == 0
    assert "Corrupt pictures left out: 2." in notes
    assert "red/1.png" in notes
    record = load(tmp_path / "x.safetensors").training
    assert (record["images"], record["skipped"], record["val"]["images"]) == (11, ["red/1.png", "red/1.png"], 11)


def _interrupt(arguments):
    """Start it in a process of its own and press Ctrl-C after the second epoch."""
    # A test run in a shell's background inherits an ignored Ctrl-C; the handler of a terminal is put back.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "from pipeline.cli import main; main()"
    command = [sys.executable, "-u", "-c", code, "train", *map(str, arguments)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        seen = []
        for line in process.stderr:
            seen.append(line)
            if line.startswith("epoch 2/"):
                process.send_signal(signal.SIGINT)
    return process.returncode, "".join(seen)


def test_ctrl_c_says_how_to_go_on_and_other_settings_do_not(folder, tmp_path, run):
    out = tmp_path / "x.safetensors"
    arguments = ["mobilenet_v2", "--data", folder, "--epochs", 40, *SMALL, "--out", out]
    status, notes = _interrupt(arguments)
    assert status == 130
    assert "The same command goes on after the last whole epoch" in notes
    assert sorted(p.name for p in tmp_path.iterdir()) == ["set", "x.safetensors.state"]
    status, _, notes = run(*arguments, "--lr", 0.001)
    assert status == 2
    assert "lr 0.003, asked is 0.001" in notes
    status, _, notes = run(*arguments, "--lr", 0.001, "--epochs", 1, "--restart")
    assert status == 0
    assert "Taken up" not in notes
    assert sorted(p.name for p in tmp_path.iterdir()) == ["set", "x.safetensors"]


def test_a_training_that_diverges_fails_in_one_line(folder, tmp_path, run):
    arguments = ["mobilenet_v2", "--data", folder, "--epochs", 3, *SMALL, "--out", tmp_path / "x.safetensors"]
    status, said, notes = run(*arguments, "--optimizer", "sgd", "--lr", 1e30)
    assert (status, said) == (1, "")
    assert "train again with --restart and an --lr below 1e+30" in notes.splitlines()[-1]
    assert not (tmp_path / "x.safetensors").exists()


def test_options_come_from_the_zoo():
    names = {parameter.name: parameter for parameter in train.command.params}
    assert "Width multiplier" in names["width"].help
