"""``pipeline export`` as it is typed: what it writes, and one clear line for everything that it will not do."""

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
from safetensors.torch import load_file, save_file
from torch import nn

from edge_apps.camera.cli import main as edge_camera
from edge_apps.images import read_image, write_png
from edge_apps.runtime.manifest import load_bundle, sha256_of
from pipeline import zoo
from pipeline.cli import main
from pipeline.zoo.spec import ModelSpec

Run = Callable[..., Any]
CONFTEST = Path(__file__).parents[1] / "conftest.py"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """An empty folder to export into; afterwards nothing half-written is in it."""
    folder = tmp_path / "place"
    folder.mkdir()
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def export(
    pipeline: Run,
    fake_family: Any,
    small_family: Any,
    small_checkpoint: Path,
    small_pictures: Path,
    place: Path,
) -> Run:
    """Export the small checkpoint to the fake target; arguments are added, ``checkpoint`` and ``data`` replaced."""

    def run(*more: Any, checkpoint: Any = small_checkpoint, data: Any = small_pictures, out: Any = place / "b") -> Any:
        given = ["--data", data, "--target", "fake", "--precision", "fp32", "--calibration-size", 8, "--out", out]
        return pipeline("export", checkpoint, *given, *more)

    return run


@pytest.fixture
def pictures(small_pictures: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(small_pictures, tmp_path / "pictures"))


# --- what it writes ---------------------------------------------------------------------------------------------------


def test_a_bundle_and_what_to_type_next(export: Run, place: Path) -> None:
    ended = export("--precision", "fp32,int8")
    assert ended.status == 0, ended.err
    assert "small-fp32.fake" in ended.out
    assert "small-int8.fake" in ended.out
    assert "Compared on only 8 images: the dB figures are indicative." in ended.out
    assert ended.out.endswith(f"pipeline evaluate {place / 'b'} --data …\n")
    steps = ["[1/4] Capturing the network", "[2/4] Calibrating", "[3/4] fake fp32", "[4/4] fake int8"]
    assert ended.err.splitlines() == steps
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
    assert f"pipeline evaluate {place}/[bold]b --data" in ended.out


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
    pipeline: Run, fake_family: Any, fake_runtime: Any, place: Path
) -> None:
    fake_runtime(lambda batch: batch.mean((1, 2, 3))[:, None] * np.arange(10.0))
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
        (["--observer", "magic", "--precision", "int8"], "Invalid enum value 'magic'"),
        (["--observer", "minmax"], "--ranges and --observer are for int8 files"),
        (["--calibration-size", "0"], "images is 0; allowed: at least 1"),
        (["--calibration-size", "41"], "Calibration asks for 41 images but the data has 40"),
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
        (["--model", "mobilenet_v3"], "was given"),
        (["mobilenet_v2", "--data", "digits"], "'mobilenet_v2' is a model without weights: give a checkpoint file"),
        (["nowhere.safetensors", "--data", "digits"], "Cannot read checkpoint 'nowhere.safetensors'"),
        (["nowhere.safetensors"], "Missing --data: calibration needs pictures of the checkpoint's classes"),
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
    assert "pip install 'edge-pipeline[export]'" in error
    assert names(place) == []


@pytest.mark.parametrize("package", ["torch", "torchao"])
def test_a_device_without_the_export_extra(place: Path, package: str) -> None:
    code = f"import sys; sys.modules['{package}'] = None; from pipeline.cli import main; main()"
    command = [sys.executable, "-c", code, "export", "--target", "coreml", "--out", str(place / "b")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == (
        f"Error: This command needs {package}, which is not installed: pip install 'edge-pipeline[export]'.\n"
    )
    assert names(place) == []


# --- bad data ---------------------------------------------------------------------------------------------------------


def no_pictures(folder: Path) -> None:
    shutil.rmtree(folder / "blue")
    shutil.rmtree(folder / "red")


def one_class(folder: Path) -> None:
    shutil.rmtree(folder / "red")


def three_classes(folder: Path) -> None:
    shutil.copytree(folder / "red", folder / "green")


def other_names(folder: Path) -> None:
    (folder / "red").rename(folder / "rose")


def no_class_folders(folder: Path) -> None:
    shutil.copy(folder / "red" / "00.png", folder / "stray.png")


def no_folder(folder: Path) -> None:
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (no_pictures, "No pictures in"),
        (one_class, "has pictures of one class only ('blue'): a classifier needs at least two"),
        (three_classes, "has 3 classes, the checkpoint has 2: class 1 is 'green', expected 'red'"),
        (other_names, "class 1 is 'rose', expected 'red'"),
        (no_class_folders, "'stray.png' in"),
        (no_folder, "No such folder or tar"),
    ],
)
def test_bad_data(export: Run, place: Path, pictures: Path, spoil: Callable[[Path], None], says: str) -> None:
    spoil(pictures)
    assert says in export(data=pictures).error()
    assert names(place) == []


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def test_a_truncated_picture_is_named_or_left_out(export: Run, place: Path, pictures: Path) -> None:
    truncate(pictures / "blue" / "03.png")
    error = export("--calibration-size", 40, data=pictures).error()
    assert "Corrupt image 'blue/03.png': it is truncated" in error
    assert "--skip-corrupt" in error
    assert names(place) == []
    ended = export("--calibration-size", 39, "--skip-corrupt", data=pictures)
    assert ended.status == 0
    assert ended.err.splitlines()[0] == "Note: Left out, corrupt: blue/03.png"
    used = json.loads((place / "b" / "calibration-set.json").read_text())["images"]
    assert len(used) == 39
    assert "blue/03.png" not in {image["name"] for image in used}


def test_one_class_is_left_after_the_corrupt_ones(export: Run, place: Path, pictures: Path) -> None:
    for path in (pictures / "red").iterdir():
        truncate(path)
    assert "pictures of one class only ('blue')" in export("--skip-corrupt", data=pictures).error()
    for path in (pictures / "blue").iterdir():
        truncate(path)
    assert "No usable picture" in export("--skip-corrupt", data=pictures).error()
    assert names(place) == []


# --- bad checkpoints --------------------------------------------------------------------------------------------------


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.mark), "w"))


def half(path: Path) -> list[Any]:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return [path]


def picture(path: Path) -> list[Any]:
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(1000))
    return [path]


def nan(path: Path) -> list[Any]:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    state = load_file(path)
    state["classifier.0.weight"][0, 0] = float("nan")
    save_file(state, path, metadata)
    return [path]


def no_metadata(path: Path) -> list[Any]:
    save_file(load_file(path), path)
    return [path]


def another_network(path: Path) -> list[Any]:
    labels = path.with_name("labels.txt")
    labels.write_text("blue\nred\n")
    save_file(load_file(path), path)
    return [path, "--model", "mobilenet_v2", "--labels", labels]


def unknown_model(path: Path) -> list[Any]:
    return [*another_network(path)[:2], "lenet", *another_network(path)[3:]]


def bomb(path: Path) -> list[Any]:
    torch.save({"features.0.0.weight": Bomb(path.with_name("gone off"))}, path.with_suffix(".pt"))
    return [path.with_suffix(".pt"), "--model", "small"]


def folder(path: Path) -> list[Any]:
    return [path.parent]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (half, "is not a whole safetensors file"),
        (picture, "is not a whole safetensors file"),
        (nan, "classifier.0.weight has NaN values"),
        (no_metadata, "does not say what it is"),
        (another_network, "is no mobilenet_v2 (width 1.0, 2 classes): features.0.0.weight is [8, 3, 3, 3], expected"),
        (unknown_model, "Unknown model 'lenet'"),
        (bomb, "was not executed"),
        (folder, "is a folder, not a checkpoint file"),
    ],
)
def test_bad_checkpoints(
    export: Run, place: Path, small_checkpoint: Path, tmp_path: Path, spoil: Callable[[Path], list[Any]], says: str
) -> None:
    path = tmp_path / "checkpoints" / "x.safetensors"
    path.parent.mkdir()
    shutil.copy(small_checkpoint, path)
    checkpoint, *more = spoil(path)
    assert says in export(*more, checkpoint=checkpoint).error()
    assert names(place) == []
    assert not path.with_name("gone off").exists()


@pytest.mark.parametrize("text", ["", "\n", "blue\n\nred\n", "blue\nblue\n"])
def test_bad_labels(export: Run, place: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "labels.txt").write_text(text)
    assert (
        "must be one class name a line, none empty, none twice" in export("--labels", tmp_path / "labels.txt").error()
    )
    assert names(place) == []


# --- where it writes --------------------------------------------------------------------------------------------------


def test_a_place_that_cannot_be_written(export: Run, place: Path) -> None:
    (place / "file").touch()
    assert "Not a directory. Choose an --out that you can write to" in export(out=place / "file" / "b").error()
    assert names(place) == ["file"]


def test_a_bundle_is_replaced_only_when_told(export: Run, place: Path) -> None:
    assert export().status == 0
    before = (place / "b" / "manifest.json").read_bytes()
    assert "exists. Pass --force to replace it" in export("--seed", 1).error()
    assert (place / "b" / "manifest.json").read_bytes() == before
    ended = export("--seed", 1, "--force")
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
        (KeyboardInterrupt(), 130, "Interrupted. Nothing half-written was left behind."),
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


# --- real files -------------------------------------------------------------------------------------------------------


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
        write_png(root / path.parent.name / path.name, np.ascontiguousarray(read_image(path)[::-1]))
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
    assert names(scratch) == []


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
    assert seen[-1] == "Error: Interrupted. Nothing half-written was left behind.\n"
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
    assert "Done" in text
    for chatter in ("LiteRT", "Failed to load", "Warning", "INFO", "WARNING", "W1", "torchao"):
        assert chatter not in text, text
    assert names(place) == ["b"]


def read_terminal(descriptor: int) -> bytes:
    """What is there; nothing once the program has gone, which Linux tells as an error."""
    try:
        return os.read(descriptor, 65536)
    except OSError:
        return b""
