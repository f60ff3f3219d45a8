"""``edge-camera`` as people and programs meet it: in a process of its own."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest

SCRIPT = Path(__file__).parents[1] / "fake_camera.py"


def one_error_line(result, status: int) -> str:
    assert result.returncode == status, result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert "Traceback" not in result.stderr
    return line


def test_pictures_get_their_labels_and_a_summary(edge_camera, model: Path, pictures: Path) -> None:
    result = edge_camera("run", "--model", model, "--source", f"folder:{pictures}")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert [line.split()[:2] for line in lines[:3]] == [
        ["a/red.png", "red"],
        ["b/green.png", "green"],
        ["c/blue.png", "blue"],
    ]
    assert "100.0 %" in lines[0]
    assert lines[3].startswith("3 frames in ")
    assert all(stage in result.stdout for stage in ("end-to-end", "preprocess", "infer", "postprocess", "waiting"))
    assert "total" not in result.stdout
    assert "* indicative: fewer than 10,000 frames" in result.stdout
    assert "colours-int8.fake: colours int8 for tflite, by fake 1.0 on" in result.stderr


def test_a_tar_is_read_like_the_folder(edge_camera, model: Path, pictures: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "p.tar", "w") as tar:
        tar.add(pictures, arcname=".")
    labels = [
        edge_camera("run", "--model", model, "--source", f"folder:{path}").stdout.splitlines()[:3]
        for path in (pictures, tmp_path / "p.tar")
    ]
    assert labels[0] == labels[1]


def test_a_path_alone_is_a_source(edge_camera, model: Path, pictures: Path, video: Path) -> None:
    for path, source, frames in ((pictures, "folder", 3), (pictures / "b/green.png", "image", 1), (video, "video", 6)):
        every = ["--every-frame"] * (source == "video")
        result = edge_camera("run", "--model", model, "--source", path, "--json", "--quiet", *every)
        assert result.returncode == 0, result.stderr
        session, summary = map(json.loads, result.stdout.splitlines())
        assert (session["source"], summary["frames"]) == (f"{source}:{path}", frames)
    refused = edge_camera("run", "--model", model, "--source", video.parent / "none.mp4")
    assert "No such file, folder or camera: " in one_error_line(refused, 2)


def test_json_is_one_document_per_line_and_nothing_else(edge_camera, model: Path, pictures: Path) -> None:
    (pictures / "b/green.png").write_bytes(b"")
    result = edge_camera("run", "--model", model, "--source", f"folder:{pictures}", "--json", "--top-k", 2)
    assert result.returncode == 0
    session, first, skipped, last, summary = map(json.loads, result.stdout.splitlines())
    assert [line["type"] for line in (session, first, skipped, last, summary)] == [
        "session", "frame", "skipped", "frame", "summary",
    ]  # fmt: skip
    assert first["name"] == "a/red.png"
    assert [entry["label"] for entry in first["top"]] == ["red", "green"]
    assert first["ms"]["total"] == pytest.approx(sum(v for k, v in first["ms"].items() if k not in ("total", "age")))
    assert skipped["kind"] == "corrupt"
    assert (summary["frames"], summary["skipped"], summary["ended_by"]) == (2, 1, "end of source")
    assert summary["ms"]["infer"]["p99_is_indicative"] is True


def test_quiet_says_only_the_start_and_the_summary(edge_camera, model: Path, pictures: Path) -> None:
    arguments = ("run", "--model", model, "--source", f"folder:{pictures}", "--quiet")
    assert edge_camera(*arguments).stdout.startswith("3 frames in ")
    assert [json.loads(line)["type"] for line in edge_camera(*arguments, "--json").stdout.splitlines()] == [
        "session",
        "summary",
    ]


def test_corrupt_pictures_are_named_and_the_rest_is_done(edge_camera, model: Path, pictures: Path) -> None:
    (pictures / "a/red.png").write_bytes(b"")
    result = edge_camera("run", "--model", model, "--source", f"folder:{pictures}")
    assert result.returncode == 0
    assert "Skipped: Corrupt image 'a/red.png': it is empty." in result.stderr
    assert "2 frames in " in result.stdout
    assert ", 1 skipped" in result.stdout


def test_nothing_but_corrupt_pictures_is_status_1(edge_camera, model: Path, pictures: Path) -> None:
    for picture in pictures.rglob("*.png"):
        picture.write_bytes(b"")
    result = edge_camera("run", "--model", model, "--source", f"folder:{pictures}")
    assert "None of the 3 frames" in one_error_line(result, 1)


def test_a_bundle_says_which_file_it_took_and_why(edge_camera, make_bundle) -> None:
    bundle = make_bundle(
        [
            {"target": "tflite", "precision": "int8", "refuses": "missing"},
            {"target": "tflite", "precision": "fp32"},
            {"target": "executorch", "precision": "int8"},
        ]
    )
    result = edge_camera("run", "--model", bundle, "--source", "test-pattern", "--frames", 2, "--threads", 1)
    assert result.returncode == 0, result.stderr
    passed_over, taken = result.stderr.splitlines()[:2]
    assert passed_over.startswith("Passed over 0-tflite-int8.fake: fake is not installed: pip install fake.")
    assert taken.startswith("2-executorch-int8.fake: colours int8 for executorch, by fake 1.0 on 1 thread.")
    # A stream has no names worth a line each.
    assert result.stdout.startswith("2 frames in ")


def test_waiting_for_a_camera_is_offered_where_one_can(edge_camera, model: Path) -> None:
    ended = edge_camera("run", "-m", model, "-s", "usb:987")
    assert ended.returncode == 2
    assert "No such camera: '/dev/video987'." in ended.stderr
    assert ended.stderr.endswith("Plug it in. Or give --wait-for-source to wait for it.\n")


def test_the_log_of_two_runs_is_summarised(edge_camera, model: Path, pictures: Path, tmp_path: Path) -> None:
    log = tmp_path / "latency.db"
    for threads in (1, 1, 2):
        result = edge_camera(
            "run", "--model", model, "--source", f"folder:{pictures}", "--log", log, "--threads", threads
        )
        assert result.returncode == 0, result.stderr
    for_people = edge_camera("log", "summary", log)
    assert for_people.returncode == 0, for_people.stderr
    assert for_people.stdout.count("postprocess") == 2, "one table for one thread, one for two"
    assert "2 runs since " in for_people.stdout
    one, two = json.loads(edge_camera("log", "summary", log, "--json").stdout)
    assert (one["threads"], one["stages"]["infer"]["n"]) == (1, 6)
    assert (two["threads"], two["stages"]["infer"]["n"]) == (2, 3)
    assert set(one["stages"]["total"]) == {"n", "mean", "p50", "p90", "p95", "p99", "max", "p99_is_indicative"}
    assert one["device"]["cores"] == os.cpu_count()


@contextlib.contextmanager
def running(model: Path, log: Path) -> Iterator[tuple[subprocess.Popen, IO[str]]]:
    """A program of its own that classifies the test pattern without end, and what it tells."""
    command = [sys.executable, str(SCRIPT), "run", "--model", str(model), "--source", "test-pattern", "--log", str(log)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([*command, "--json"], text=True, **pipes) as program:
        assert program.stdout is not None
        yield program, program.stdout


def rows(log: Path, sql: str) -> list[tuple]:
    with contextlib.closing(sqlite3.connect(log)) as database:
        return database.execute(sql).fetchall()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_program_ends_with_0_and_a_complete_log(model: Path, tmp_path: Path, number: signal.Signals) -> None:
    log = tmp_path / "latency.db"
    with running(model, log) as (program, out):
        told = [json.loads(out.readline()) for _ in range(20)]
        program.send_signal(number)
        told += [json.loads(line) for line in out]  # communicate() would lose what readline() has buffered
        assert program.wait(timeout=30) == 0
    assert told[-1]["type"] == "summary"
    assert told[-1]["ended_by"] == number.name
    frames = sum(line["type"] == "frame" for line in told)
    assert rows(log, "SELECT count(*) FROM frame") == [(frames,)]
    assert rows(log, "SELECT ended_by FROM session WHERE ended IS NOT NULL") == [(number.name,)]


def test_a_reader_that_goes_away_is_no_fault(model: Path, tmp_path: Path) -> None:
    log = tmp_path / "latency.db"
    with running(model, log) as (program, out):
        out.readline()
        out.close()
        assert program.stderr is not None
        said = program.stderr.read()
        assert program.wait(timeout=30) == 1
    assert "Traceback" not in said
    assert "Exception ignored" not in said
    assert rows(log, "SELECT ended IS NULL FROM session") == [(0,)]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--source", "foldr:x"], "Unknown source 'foldr'. Did you mean 'folder'?"),
        (["--source", "test-pattern", "--loop"], "--loop"),
        (["--source", "test-pattern", "--frames", "0"], "0 is not in the range x>=1"),
        (
            ["--source", "test-pattern", "--frames", "1", "--threads", "3000000000"],
            "3000000000 is not in the range 1<=x<=1024",
        ),
        (
            ["--source", "test-pattern", "--frames", "1", "--log", "x.db", "--log-max-size", "1001T"],
            "too large: choose 1000T at most",
        ),
        (["--source", "test-pattern", "--warmup", "0"], "0 is not in the range x>=1"),
        (["--source", "test-pattern", "--top-k", "4"], "this model has 3 labels"),
        (["--source", "test-pattern", "--precision", "int4"], "'int4' is not one of"),
        (["--source", "test-pattern", "--target", "coreml"], "is tflite int8, not 'coreml'"),
        (["--source", "test-pattern", "--log", "/proc/no/latency.db"], "Cannot open the log"),
        ([], "Missing option '--source'"),
    ],
)
def test_wrong_usage_is_status_2_in_one_line(edge_camera, model: Path, arguments: list[str], says: str) -> None:
    assert says in one_error_line(edge_camera("run", "--model", model, *arguments), 2)


def test_a_file_that_is_no_log_is_refused_before_the_model_is_opened(edge_camera, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    result = edge_camera(
        "run", "--model", tmp_path / "no-model", "--source", "test-pattern", "--log", tmp_path / "notes.txt"
    )
    assert "notes.txt' is not a latency log" in one_error_line(result, 2)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_broken_runtime_is_status_1_in_one_line(edge_camera, fake, tmp_path: Path) -> None:
    broken = fake.write_fake(tmp_path / "m.fake", fails_at=3)
    result = edge_camera("run", "--model", broken, "--source", "test-pattern", "--warmup", 1)
    assert "RuntimeError: the fake runtime broke." in one_error_line(result, 1)


def test_help_and_version(edge_camera) -> None:
    assert "--source" in edge_camera("run", "--help").stdout
    assert edge_camera("--version").stdout.startswith("edge-camera, version ")
    assert one_error_line(edge_camera("log", "sumary", "x"), 2)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--burst", "--sustained", "1m"], "choose one"),
        (["--sustained", "soon"], "'soon' is no span of time"),
        (["--source", "tv"], "Unknown source 'tv'"),
        (["--threads", "0"], "--threads"),
        (["--seconds", "-1"], "--seconds is -1; choose 0 to 86,400"),
        (["--seconds", "nan"], "--seconds is nan"),
        (["--seconds", "inf"], "--seconds is inf"),
        (["--log", "/proc/none/x.db"], "Cannot open the log '/proc/none/x.db'"),
        (["--target", "coreml"], "not 'coreml'"),
    ],
)
def test_wrong_usage_of_a_benchmark_is_one_line(
    edge_camera: Callable[..., Any], model: Path, options: list[str], says: str
) -> None:
    ended = edge_camera("benchmark", "-m", model, *options)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert says in ended.stderr.strip().splitlines()[-1]


def test_a_benchmark_without_a_model_or_a_place_for_its_log(
    edge_camera: Callable[..., Any], model: Path, tmp_path: Path
) -> None:
    assert "No such bundle" in edge_camera("benchmark", "-m", tmp_path / "none").stderr
    (tmp_path / "letter.txt").write_text("dear log")
    ended = edge_camera("benchmark", "-m", model, "--log", tmp_path / "letter.txt")
    assert ended.returncode == 2
    assert (tmp_path / "letter.txt").read_text() == "dear log"
