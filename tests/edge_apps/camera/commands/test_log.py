"""``edge-camera log`` as people and programs meet it."""

import json
import re
import sqlite3
from pathlib import Path

import pytest

from edge_apps.camera.inference.loop import Result
from edge_apps.camera.inference.session import Session
from edge_apps.camera.log import open_log
from edge_apps.camera.sources.parse import Event
from edge_apps.runtime.device import this_device
from edge_apps.runtime.sensors import Sample

SAMPLE = Sample(at=5.0, temperature_c=81.5, clock_mhz=600.0, throttled=("capped",), memory_mb=90.0, power_mode="15W")


def log_run(path: Path, n: int, **changes: object) -> Path:
    fields = {
        "device": this_device(), "runtime": "fake 1.0", "threads": 1, "model": "colours", "file": "c-int8.fake",
        "sha256": "ab" * 32, "target": "tflite", "precision": "int8", "input": "8×10", "source": "folder:x",
        "load_ms": 1.0, "first_ms": 2.0, "warmup": 5,
    }  # fmt: skip
    with open_log(path) as log:
        log.begin(Session(**{**fields, **changes}))
        for sequence in range(n):
            times = {"capture": 1, "decode": 0, "preprocess": 2, "infer": 10**6, "postprocess": 3}
            log.add(Result(sequence, "x", 0.0, (("cat", 0.5),), {**times, "total": 2 * 10**6, "age": 10**6}))
        log.add(Event(1.0, "lost", "the camera is gone"))
        log.sample(SAMPLE)
        log.end("frames")
    return path


def test_summary_says_what_is_measured_and_how_the_device_did(edge_camera, tmp_path: Path) -> None:
    said = edge_camera("log", "summary", log_run(tmp_path / "l.db", 9, governor="ondemand"))
    assert said.returncode == 0
    assert "1 run since" in said.stdout
    assert "lost 1×" in said.stdout
    assert "Cold: loaded in 1.0 ms, first inference 2.0 ms" in said.stdout
    assert "up to 81.5 °C; clock down to 600 MHz; held back 100.0% of the time (capped)" in said.stdout
    assert "governor ondemand; power mode 15W" in said.stdout
    assert "* indicative: fewer than 10,000 frames" in said.stdout
    assert "dropped" not in said.stdout


def test_summary_leads_with_latency_and_throughput_and_names_the_device(edge_camera, tmp_path: Path) -> None:
    names = {"device_id": "3f2a91c0-6f0e-4b6a-9a51-0c2f3d4e5f60", "device_name": "kitchen-pi [bold]"}
    out = edge_camera("log", "summary", log_run(tmp_path / "l.db", 9, **names)).stdout
    assert out.startswith(f"kitchen-pi [bold] · {this_device()} · device 3f2a91c0 · ")
    assert re.search(r"^End-to-end latency p50 1\.00 ms, p99 1\.00 ms; throughput [\d.]+ fps$", out, re.MULTILINE)
    stages = re.findall(r"^(\S+) +9 ", out, re.MULTILINE)
    assert stages == ["end-to-end", "decode", "preprocess", "infer", "postprocess", "waiting"]


def test_summary_says_what_is_known_by_histograms_alone(edge_camera, tmp_path: Path) -> None:
    path = log_run(tmp_path / "l.db", 9)
    database = sqlite3.connect(path)
    database.executescript("DELETE FROM frame WHERE sequence < 4; UPDATE session SET frames_dropped = 5")
    database.close()
    out = edge_camera("log", "summary", path).stdout
    assert "rows of 5 frames were dropped: 9 frames count by the histograms of their windows" in out
    assert "within 0.4%; n, mean and max are exact" in out
    assert "1 frame of those dropped are in no figure" in out
    (group,) = json.loads(edge_camera("log", "summary", path, "--json").stdout)
    assert (group["by_histogram"], group["missing"], group["frames_dropped"]) == (9, 1, 5)


def test_compare_puts_them_side_by_side(edge_camera, tmp_path: Path) -> None:
    files = [log_run(tmp_path / "1.db", 9), log_run(tmp_path / "2.db", 5, threads=2)]
    said = edge_camera("log", "compare", *files)
    assert said.returncode == 0
    assert all(word in said.stdout for word in ("1 thread,", "2 threads,", "held back", "max °C"))
    assert re.search(r"^ +end-to-end +infer +$\n +n +fps +p50 +p90 +p99 +p50 +p90 +p99 ", said.stdout, re.MULTILINE)
    assert "1.00*" in said.stdout
    assert "81.5" in said.stdout
    documents = json.loads(edge_camera("log", "compare", *files, "--json").stdout)
    assert [document["stages"]["total"]["n"] for document in documents] == [9, 5]


def test_compare_draws(edge_camera, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: this test did NOT run")
    path = log_run(tmp_path / "1.db", 9)
    assert edge_camera("log", "compare", path, "--plot", tmp_path / "p.svg").returncode == 0
    assert (tmp_path / "p.svg").stat().st_size > 1_000
    refused = edge_camera("log", "compare", path, "--plot", tmp_path / "p.pdf")
    assert (refused.returncode, refused.stdout) == (2, "")


def test_export_to_files_and_to_stdout(edge_camera, tmp_path: Path) -> None:
    path = log_run(tmp_path / "l.db", 9)
    said = edge_camera("log", "export", path, "--csv", tmp_path / "o.csv", "--jsonl", tmp_path / "o.jsonl")
    assert said.returncode == 0
    assert said.stdout.count("9 rows of frame: ") == 2
    assert len((tmp_path / "o.csv").read_text().splitlines()) == 10
    said = edge_camera("log", "export", path, "--jsonl", "-", "--table", "sample")
    assert json.loads(said.stdout)["throttled"] == ["capped"]
    assert "1 row of sample" in said.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "Say what to write: --csv OUT, --jsonl OUT or --parquet OUT."),
        (("--csv", "-", "--jsonl", "-"), "Two formats cannot go to the same place"),
        (("--csv", "-", "--table", "frames"), "frames"),
    ],
)
def test_export_that_makes_no_sense_is_refused(edge_camera, tmp_path: Path, arguments: tuple, says: str) -> None:
    said = edge_camera("log", "export", log_run(tmp_path / "l.db", 1), *arguments)
    assert said.returncode == 2
    assert says in said.stderr
    assert said.stdout == ""


def test_merge(edge_camera, tmp_path: Path) -> None:
    files = [log_run(tmp_path / "1.db", 9), log_run(tmp_path / "2.db", 5, threads=2)]
    said = edge_camera("log", "merge", tmp_path / "all.db", *files)
    assert said.stdout == f"2 runs: {tmp_path / 'all.db'}\n"
    assert edge_camera("log", "merge", tmp_path / "all.db", *files).returncode == 2
    assert edge_camera("log", "merge", tmp_path / "all.db").returncode == 2


@pytest.mark.parametrize("command", ["summary", "compare", "export", "merge"])
@pytest.mark.parametrize(
    ("content", "says"), [(None, "No such log"), (b"", "is empty"), (b"no", "is not a latency log")]
)
def test_what_is_no_log_is_told_in_one_line(edge_camera, tmp_path: Path, command: str, content, says: str) -> None:
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    extra = {"export": ("--csv", tmp_path / "o.csv")}.get(command, ())
    arguments = (tmp_path / "out.db", path) if command == "merge" else (path, *extra)
    said = edge_camera("log", command, *arguments)
    assert said.returncode == 2
    assert says in said.stderr
    assert said.stderr.count("\n") == 1
    assert said.stdout == ""
    assert not (tmp_path / "o.csv").exists()
