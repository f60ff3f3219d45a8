"""Snapshots: which frames are kept, under what name, and what happens when they cannot be."""

import shutil
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_apps.camera.inference.loop import Result
from edge_apps.camera.inference.snapshot import (
    SnapshotOptions,
    Snapshots,
    check_labels,
    name_of,
    snapshot_options,
)
from edge_apps.camera.sources.parse import Event
from edge_apps.errors import BadInput

IMAGE = np.full((48, 64, 3), (200, 30, 90), np.uint8)


def result(sequence: int = 0, decision: str | None = "cat", label: str = "cat") -> Result:
    top = ((label, 0.875),)
    return Result(sequence, "x", 1_763_680_500.25, top, {}, top, decision, IMAGE)


def keep(folder: Path, *results: Result, every: float = 0.0, most: int = 1000) -> tuple[Snapshots, list[Event]]:
    told: list[Event] = []
    with Snapshots(SnapshotOptions(folder, ("cat",), every, most), told.append) as snapshots:
        for one in results:
            snapshots.see(one)
            while not snapshots._waiting.empty():
                pass
    return snapshots, told


def test_a_chosen_label_is_kept_as_it_was_seen(tmp_path: Path) -> None:
    snapshots, told = keep(tmp_path / "new", result(0), result(1, "dog", "dog"), result(2, None))
    assert ([path.name for path in (tmp_path / "new").iterdir()], told) == (
        ["20251120T231500.250Z_000000_cat_88.jpg"],
        [],
    )
    picture = cv2.cvtColor(
        cv2.imread(str(tmp_path / "new" / "20251120T231500.250Z_000000_cat_88.jpg")), cv2.COLOR_BGR2RGB
    )
    assert picture.shape == IMAGE.shape
    assert np.abs(picture.astype(int) - IMAGE).max() <= 3, "JPEG"
    assert (snapshots.taken, snapshots.missed) == (1, 0)


def test_not_more_often_than_asked(tmp_path: Path) -> None:
    snapshots, _ = keep(tmp_path, *map(result, range(20)), every=3600)
    assert snapshots.taken == len(list(tmp_path.iterdir())) == 1


def test_not_more_than_asked_and_that_is_said_once(tmp_path: Path) -> None:
    snapshots, told = keep(tmp_path, *map(result, range(20)), most=3)
    assert snapshots.taken == len(list(tmp_path.iterdir())) == 3
    assert [event.reason for event in told] == ["3 snapshots are taken: no more in this run."]


def test_a_folder_that_goes_away_is_told_once_and_ends_nothing(tmp_path: Path) -> None:
    told: list[Event] = []
    with Snapshots(SnapshotOptions(tmp_path / "a", ("cat",), 0.0), told.append) as snapshots:
        (tmp_path / "a").rmdir()
        (tmp_path / "a").write_text("a file now")
        for sequence in range(3):
            snapshots.see(result(sequence))
            while not snapshots._waiting.empty():
                pass
    assert (snapshots.taken, snapshots.kept) == (3, 0)
    fault, end = (event.reason for event in told)
    assert fault.startswith("A snapshot is not kept: Cannot write")
    assert end == "3 snapshots were not kept; 0 were."


def test_what_could_not_be_written_does_not_count_as_taken(tmp_path: Path) -> None:
    told: list[Event] = []
    with Snapshots(SnapshotOptions(tmp_path / "a", ("cat",), 0.0, most=2), told.append) as snapshots:
        shutil.rmtree(tmp_path / "a")
        (tmp_path / "a").write_text("a file now")
        snapshots.see(result(0))
        while not snapshots.failed:
            time.sleep(0.01)
        (tmp_path / "a").unlink()
        for sequence in range(1, 4):
            snapshots.see(result(sequence))
    assert snapshots.kept == 2
    assert [event.reason for event in told][1:] == [
        "2 snapshots are taken: no more in this run.",
        "1 snapshots were not kept; 2 were.",
    ]


def test_a_folder_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="Cannot write"), Snapshots(SnapshotOptions(tmp_path / "file", ("cat",)), print):
        pass


def test_labels_become_plain_names() -> None:
    assert name_of(result(7, label="../Égyptian cat/\n")).endswith("_000007_-Égyptian-cat-_88.jpg")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((Path("d"), (), None, None), "add `snapshot_on`"),
        ((None, ("cat",), None, None), "`snapshot_on` needs a folder"),
        ((None, (), 3.0, None), "`snapshot_every` needs a folder"),
        ((None, (), None, 3), "`snapshot_most` needs a folder"),
    ],
)
def test_options_that_need_each_other(given: tuple, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        snapshot_options(*given)


def test_options() -> None:
    assert snapshot_options(None, (), None, None) is None
    assert snapshot_options(Path("d"), ("a", "b"), 0.0, 5) == SnapshotOptions(Path("d"), ("a", "b"), 0.0, 5)
    assert snapshot_options(Path("d"), ("a",), None, None) == SnapshotOptions(Path("d"), ("a",))


def test_a_label_that_the_model_does_not_know() -> None:
    check_labels(["b"], ["a", "b"])
    with pytest.raises(BadInput, match="names 'z', which this model does not know. It knows: l0, .*, l9 and 2 more"):
        check_labels(["z"], [f"l{i}" for i in range(12)])
