"""Labels, file names and rows of logs that would steer a terminal, through the commands that show them."""

import contextlib
import csv
import io
import json
import sqlite3
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_apps.images import write_png

LABELS = ["\x1b]0;x\x07", "\x9b31m", "\u202eder"]


def steers(text: str) -> bool:
    kinds = {unicodedata.category(character) for character in text if character != "\n"}
    return bool(kinds & {"Cc", "Cf", "Zl", "Zp", "Cs"})


@pytest.fixture
def model(fake: Any, tmp_path: Path) -> Path:
    """Its labels and its name are hostile."""
    path: Path = fake.write_fake(tmp_path / "m\x1b[2J.fake", manifest={"labels": LABELS, "model": "m\x9b2J"})
    return path


@pytest.fixture
def source(tmp_path: Path) -> str:
    folder = tmp_path / "pictures\u202e"
    folder.mkdir()
    for name, colour in (("a\x1b[8m.png", (200, 10, 10)), ("b\x9d0;x\x9c.png", (10, 180, 10))):
        write_png(folder / name, np.full((20, 30, 3), colour, np.uint8))
    (folder / "c\u2028.png").write_bytes(b"no image")
    return f"folder:{folder}"


def test_a_run_its_log_and_what_is_read_of_it(edge_camera: Any, model: Path, source: str, tmp_path: Path) -> None:
    log = tmp_path / "latency\x1b.db"
    ran = edge_camera("run", "--model", model, "--source", source, "--log", log)
    assert ran.returncode == 0, ran.stderr
    assert "�]0;x�" in ran.stdout
    shown = [
        ran,
        edge_camera("log", "summary", log),
        edge_camera("log", "compare", log),
        edge_camera("log", "export", log, "--csv", tmp_path / "out\x9b.csv"),
        edge_camera("log", "merge", tmp_path / "all\x1b.db", log),
    ]
    for ended in shown:
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout
        assert not steers(ended.stdout + ended.stderr)


def test_json_and_csv_are_exact(edge_camera: Any, model: Path, source: str, tmp_path: Path) -> None:
    log = tmp_path / "latency.db"
    ran = edge_camera("run", "--model", model, "--source", source, "--log", log, "--json")
    assert not steers(ran.stdout)
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [line["name"] for line in lines if line["type"] == "frame"] == ["a\x1b[8m.png", "b\x9d0;x\x9c.png"]
    assert {entry["label"] for line in lines if line["type"] == "frame" for entry in line["top"]} == set(LABELS)
    summary = edge_camera("log", "summary", log, "--json")
    assert not steers(summary.stdout)
    assert json.loads(summary.stdout)[0]["model"] == "m\x9b2J"
    exported = edge_camera("log", "export", log, "--csv", "-")
    rows = list(csv.DictReader(io.StringIO(exported.stdout, newline="")))
    assert {row["top1"] for row in rows if row.get("top1")} <= set(LABELS)
    assert [row["name"] for row in rows] == ["a\x1b[8m.png", "b\x9d0;x\x9c.png"]


def test_a_device_that_calls_itself_something(edge_camera: Any, model: Path, source: str, tmp_path: Path) -> None:
    """Not by this program, which refuses such names: a log comes from anywhere."""
    log = tmp_path / "latency.db"
    assert edge_camera("run", "--model", model, "--source", source, "--log", log).returncode == 0
    with contextlib.closing(sqlite3.connect(log)) as database:
        database.execute("UPDATE session SET device_name = ?, settings = ?", ("pi\x1b]0;x\x07", "\x9b31m"))
        database.commit()
    for verb in ("summary", "compare"):
        ended = edge_camera("log", verb, log)
        assert ended.returncode == 0, ended.stderr
        assert "pi�]0;x" in ended.stdout
        assert not steers(ended.stdout)
