"""Devices in a log: two of one kind are two, one that is renamed is one."""

import csv
import json
import re
from pathlib import Path

import msgspec
import pytest

from edge_apps.camera.log.compare import as_json, compare_logs
from edge_apps.camera.log.devices import described, labels
from edge_apps.camera.log.export import export
from edge_apps.camera.log.merge import merge_logs
from edge_apps.camera.log.plot import write_plot
from edge_apps.camera.log.summary import summarize_log
from edge_apps.runtime.device import this_device

PI = msgspec.structs.replace(this_device(), board="Raspberry Pi 5 Model B Rev 1.0")
KITCHEN, GARAGE = "3f2a91c0-6f0e-4b6a-9a51-0c2f3d4e5f60", "b7c1d2e3-0000-4000-8000-000000000001"


def write(logs, path: Path, id_: str, name: str, infer: int = 3, **changes: object) -> None:
    frames = [logs.frame(n, infer=infer * 10**6) for n in range(20)]
    logs.write(path, frames, device=PI, device_id=id_, device_name=name, **changes)


@pytest.fixture
def two(logs, tmp_path: Path) -> list[Path]:
    """The same model on two boards of one kind."""
    files = [tmp_path / "kitchen.db", tmp_path / "garage.db"]
    write(logs, files[0], KITCHEN, "kitchen-pi", infer=3)
    write(logs, files[1], GARAGE, "garage-pi", infer=9)
    return files


def test_two_boards_of_one_kind_are_two_rows_everywhere(two, tmp_path: Path) -> None:
    merge_logs(tmp_path / "all.db", two)
    groups = summarize_log(tmp_path / "all.db")
    assert [(g.device_name, g.device_id, g.stages["infer"].n) for g in groups] == [
        ("kitchen-pi", KITCHEN, 20),
        ("garage-pi", GARAGE, 20),
    ]
    assert groups[0].fingerprint == groups[1].fingerprint, "the hardware does not tell them apart"
    for files in (two, [tmp_path / "all.db"], [*two, tmp_path / "all.db"]):
        compared = compare_logs(files)
        assert [line.names[0] for line in compared] == ["kitchen-pi", "garage-pi"]
        assert [document["device_name"] for document in as_json(compared)] == ["kitchen-pi", "garage-pi"]


def test_two_runs_of_one_device_are_one_row(logs, two, tmp_path: Path) -> None:
    write(logs, two[0], KITCHEN, "kitchen-pi")
    write(logs, tmp_path / "later.db", KITCHEN, "kitchen-pi")
    assert [line.group.stages["infer"].n for line in compare_logs([two[0], tmp_path / "later.db"])] == [60]


def test_a_renamed_device_is_one_device_under_its_newest_name(logs, two, tmp_path: Path) -> None:
    """Also in the rows of another model that ran before it was renamed, and whichever file is read first."""
    write(logs, two[0], KITCHEN, "kitchen-pi", file="other.tflite", sha256="cd" * 32)
    write(logs, tmp_path / "later.db", KITCHEN, "hall-pi")
    for files in ([*two, tmp_path / "later.db"], [tmp_path / "later.db", *two]):
        rows = {(line.names[0], line.group.file): line.group.stages["infer"].n for line in compare_logs(files)}
        assert rows == {
            ("hall-pi", "colours-int8.fake"): 40,
            ("hall-pi", "other.tflite"): 20,
            ("garage-pi", "colours-int8.fake"): 20,
        }
    merge_logs(tmp_path / "all.db", [*two, tmp_path / "later.db"])
    kept = logs.rows(tmp_path / "all.db", "SELECT DISTINCT device_name FROM session ORDER BY 1")
    assert kept == [("garage-pi",), ("hall-pi",), ("kitchen-pi",)], "what it was called is not rewritten"


def test_two_devices_of_one_name_are_told_apart_by_their_ids(logs, tmp_path: Path) -> None:
    """As when both are called raspberrypi, which is the system's default."""
    for number, id_ in enumerate((KITCHEN, GARAGE), 1):
        write(logs, tmp_path / f"{number}.db", id_, "raspberrypi", infer=number)
    compared = compare_logs([tmp_path / "1.db", tmp_path / "2.db"])
    assert [line.names[0] for line in compared] == ["raspberrypi (3f2a91c0)", "raspberrypi (b7c1d2e3)"]


def test_a_disk_in_other_hardware_is_not_pooled(logs, tmp_path: Path) -> None:
    path = tmp_path / "latency.db"
    write(logs, path, KITCHEN, "kitchen-pi", infer=1)
    logs.write(path, [logs.frame(0, infer=2 * 10**6)], device_id=KITCHEN, device_name="kitchen-pi")
    names = [line.names for line in compare_logs([path])]
    assert names == [
        ("kitchen-pi", "colours-int8.fake", PI.board),
        ("kitchen-pi", "colours-int8.fake", this_device().hardware),
    ]


def test_the_plot_has_a_line_and_a_name_for_each(two, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: this test did NOT run")
    write_plot(tmp_path / "plot.svg", compare_logs(two))
    text = " ".join(re.findall(r"<!-- (.*?) -->", (tmp_path / "plot.svg").read_text()))
    assert "1 · kitchen-pi" in text
    assert "2 · garage-pi" in text
    assert "end-to-end latency" in text


@pytest.mark.parametrize("table", ["frame", "window", "sample", "event"])
def test_every_exported_row_says_device_model_and_file(logs, two, tmp_path: Path, table: str) -> None:
    logs.write(two[0], [logs.frame(0), logs.sample()], device=PI, device_id=KITCHEN, device_name='hall, "1"')
    merge_logs(tmp_path / "all.db", two)
    n = export(tmp_path / "all.db", table, "csv", tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == n
    assert {(row["device"], row["device_name"], row["model"], row["file"]) for row in rows} <= {
        (KITCHEN, 'hall, "1"', "colours", "colours-int8.fake"),
        (GARAGE, "garage-pi", "colours", "colours-int8.fake"),
    }
    export(tmp_path / "all.db", table, "jsonl", tmp_path / "out.jsonl")
    documents = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [document["device"] for document in documents] == [row["device"] for row in rows]


def test_the_exported_sessions_say_what_a_device_was_called(two, tmp_path: Path) -> None:
    export(two[0], "session", "jsonl", tmp_path / "out.jsonl")
    (session,) = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    assert (session["device_id"], session["device_name"], session["model"]) == (KITCHEN, "kitchen-pi", "colours")
    assert session["device"]["board"] == PI.board


def test_a_session_that_an_older_program_added_meanwhile(logs, two) -> None:
    """It had the file open while another program upgraded it, and knows no id."""
    logs.change(two[0], "UPDATE session SET device_id = '', device_name = ''")
    (group,) = summarize_log(two[0])
    assert (group.device_id, group.device_name) == (PI.fingerprint, PI.board)


def test_a_session_without_an_identity_is_known_by_its_hardware(logs, tmp_path: Path) -> None:
    logs.write(tmp_path / "latency.db", [logs.frame(0)], device=PI)
    (group,) = summarize_log(tmp_path / "latency.db")
    assert (group.device_id, group.device_name) == (PI.fingerprint, PI.board)


def test_lines_for_people() -> None:
    assert labels({"a-1": "pi", "b-1": "pi", "c-1": "orin"}) == {"a-1": "pi (a)", "b-1": "pi (b)", "c-1": "orin"}
    assert described(KITCHEN, "kitchen-pi", PI) == f"kitchen-pi · {PI} · device 3f2a91c0"
    assert described("abcdef012345", PI.board, PI) == f"{PI} · device abcdef012345", "as before version 4"
