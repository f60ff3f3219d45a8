"""What ``pipeline export`` is given to read and cannot use: one clear line, and nothing left behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

Run = Callable[..., Any]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


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
        (no_pictures, "No images in"),
        (three_classes, "are not those of the network. Unknown folder: green. Rename the folders"),
        (other_names, "No folder for: red. Unknown folder: rose."),
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
    ended = export("--precision", "int8", "--calibration-size", 39, "--skip-corrupt", data=pictures)
    assert ended.status == 0
    assert ended.err.splitlines()[0] == "Note: Left out, corrupt: blue/03.png"
    used = json.loads((place / "b" / "calibration-set.json").read_text())["images"]
    assert len(used) == 39
    assert "blue/03.png" not in {image["name"] for image in used}


def test_nothing_is_left_after_the_corrupt_ones(export: Run, place: Path, pictures: Path) -> None:
    for path in pictures.glob("*/*"):
        truncate(path)
    assert "No usable picture" in export("--skip-corrupt", data=pictures).error()
    assert names(place) == []


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("spoil", [one_class, lambda folder: [truncate(path) for path in (folder / "red").iterdir()]])
def test_one_class_is_enough_and_a_calibration_warns(
    export: Run, pictures: Path, spoil: Callable[[Path], object], precision: str
) -> None:
    """As data that lack some classes do; files in float calibrate nothing."""
    spoil(pictures)
    run = export("--skip-corrupt", "--precision", precision, data=pictures)
    assert run.status == 0, run.err
    warned = "Warning: No calibration image of 1 of 2 classes: 'red'. What the network does with other classes is not"
    assert (warned in run.err.replace("\n", " ")) == (precision == "int8")


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
        (another_network, "2 classes): features.0.0.weight is [8, 3, 3, 3], expected"),
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
