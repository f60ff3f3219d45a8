"""A log whose file is broken: found out, set aside and named, whatever it is that is broken; never deleted."""

import random
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_apps.camera.log import integrity, open_log, read_log, schema, writer
from edge_apps.camera.log.database import HEAD
from edge_apps.errors import BadInput

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
"""In the place of a check: what it takes of a large file on a slow card, and more."""

COPIES = 30
"""Of a log, each damaged in another way."""

COMMANDS: dict[str, Callable[[Path, Path], tuple[object, ...]]] = {
    "summary": lambda path, _: ("summary", path),
    "compare": lambda path, _: ("compare", path),
    "merge": lambda path, folder: ("merge", folder / "merged.db", path),
    "export": lambda path, folder: ("export", path, "--jsonl", folder / "o.jsonl", "--csv", folder / "o.csv"),
    "export sessions": lambda path, folder: ("export", path, "--jsonl", folder / "o.jsonl", "--table", "session"),
}


@pytest.fixture
def whole(logs, tmp_path: Path) -> Path:
    path = tmp_path / "whole.db"
    logs.write(path, [*(logs.frame(n) for n in range(40)), *(logs.sample() for _ in range(5))])
    return path


def damage(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "cut off":
        del data[5_000:]
    elif how == "overwritten":
        data[4096 * 3 : 4096 * 8] = b"\xff" * (4096 * 5)
    elif how == "zeroed":
        data[4096 * 2 :] = bytes(len(data) - 4096 * 2)
    elif how == "header":
        data[16:18] = b"\x00\x07"  # a page size that does not exist
    else:
        data[:4096] = bytes(4096)  # as after a power cut
    path.write_bytes(data)


@pytest.mark.parametrize("how", ["cut off", "overwritten", "zeroed", "header", "no header"])
def test_a_damaged_log_is_set_aside_and_a_new_one_begun(logs, told, tmp_path: Path, how: str) -> None:
    path = tmp_path / "latency.db"
    logs.write(path, [logs.frame(n) for n in range(2_000)])
    damage(path, how)
    before = path.read_bytes()
    (tmp_path / "latency.db-wal").write_bytes(b"")
    with open_log(path, tell=told.append) as log:
        log.begin(logs.session())
        log.add(logs.frame(7))
        log.end("frames")
    assert told.kinds == ["log-damaged"]
    (aside,) = tmp_path.glob("latency.db.damaged-*Z")
    assert aside.name in told[0].reason
    assert aside.read_bytes() == before, "never touched again"
    assert logs.rows(path, "SELECT sequence FROM frame") == [(7,)]
    assert logs.rows(path, "SELECT kind FROM event") == [("log-damaged",)]


def test_two_damaged_logs_of_one_second_keep_their_names(logs, told, tmp_path: Path) -> None:
    path = tmp_path / "latency.db"
    for _ in range(3):
        logs.write(path, [logs.frame(n) for n in range(200)])
        damage(path, "cut off")
    with open_log(path, tell=told.append):
        pass
    assert len(list(tmp_path.glob("latency.db.damaged-*"))) == 3
    assert not list(tmp_path.glob("*-wal*"))


def test_what_the_log_told_is_not_logged_twice(logs, told, tmp_path: Path) -> None:
    path = tmp_path / "latency.db"
    logs.write(path, [logs.frame(n) for n in range(500)])
    damage(path, "cut off")
    with open_log(path, tell=told.append) as log:
        log.begin(logs.session())
        logs.until(lambda: told)
        log.add(told[0])
        log.end("frames")
    assert logs.rows(path, "SELECT count(*) FROM event") == [(1,)]


def test_an_owner_that_cannot_hear_stops_nothing(logs, tmp_path: Path) -> None:
    path = tmp_path / "latency.db"
    logs.write(path, [logs.frame(n) for n in range(500)])
    damage(path, "cut off")

    def deaf(event: object) -> None:
        raise RuntimeError(event)

    with open_log(path, tell=deaf) as log:
        log.begin(logs.session())
        log.add(logs.frame(0))
        log.end("frames")
    assert logs.rows(path, "SELECT count(*) FROM frame") == [(1,)]


def replace(path: Path, old: bytes, new: bytes) -> None:
    """In the statements that made the tables, which SQLite keeps as text; no page's structure changes."""
    data = path.read_bytes()
    assert data.count(old) == 1
    assert len(old) == len(new)
    path.write_bytes(data.replace(old, new))


def damaged_copy(whole: Path, folder: Path, seed: int) -> Path:
    """Some bytes anywhere behind the file's head, every other time in its first pages, where the tables are named."""
    chance, data = random.Random(seed), bytearray(whole.read_bytes())
    end = len(data) if seed % 2 else 2 * 4096
    for _ in range(chance.choice([1, 4, 32])):
        data[chance.randrange(HEAD, end)] = chance.randrange(256)
    path = folder / f"{seed}.db"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"throttled TEXT", b"throttlex TEXT"),  # which upgrade() does not add
        (b"precision TEXT", b"precisiox TEXT"),  # which it cannot add
        (b"throttled TEXT", b"throttle\xbd TEXT"),
        (b"tablesample", b"tablesampl\xbd"),
    ],
)
def test_tables_that_are_not_those_of_a_log_are_damage(logs, told, whole: Path, old: bytes, new: bytes) -> None:
    replace(whole, old, new)
    before = whole.read_bytes()
    with open_log(whole, tell=told.append) as log:
        log.begin(logs.session())
        log.add(logs.frame(7))
        log.end("frames")
    assert told.kinds == ["log-damaged"]
    (aside,) = whole.parent.glob("whole.db.damaged-*Z")
    assert aside.read_bytes()[HEAD:] == before[HEAD:], "its head counts that it was opened"
    assert logs.rows(whole, "SELECT sequence FROM frame") == [(7,)]


def test_a_head_that_is_damaged_is_a_damaged_log(logs, told, whole: Path) -> None:
    data = whole.read_bytes()
    whole.write_bytes(b"\xff" * 4 + data[4:])
    with pytest.raises(BadInput, match=r"whole\.db' is damaged"):
        read_log(whole)
    with open_log(whole, tell=told.append) as log:
        log.begin(logs.session())
        log.end("frames")
    assert told.kinds == ["log-damaged"]
    assert logs.rows(whole, "SELECT count(*) FROM session") == [(1,)]


def test_a_head_that_says_nothing_is_of_no_log(whole: Path) -> None:
    data = whole.read_bytes()
    assert data[68:72] == schema.APPLICATION_ID.to_bytes(4, "big")
    whole.write_bytes(b"\xff" * 72 + data[72:])
    before = whole.read_bytes()
    with pytest.raises(BadInput, match="is not a latency log"), open_log(whole):
        pass
    assert whole.read_bytes() == before


def test_a_run_that_ends_while_a_large_file_is_checked_loses_no_row(logs, told, whole: Path, monkeypatch) -> None:
    monkeypatch.setattr(integrity, "_statement", lambda _: ENDLESS)
    with open_log(whole, tell=told.append) as log:
        log.begin(logs.session())
        for sequence in range(50):
            log.add(logs.frame(sequence))
        log.end("SIGTERM")
    assert told.kinds == ["log-unchecked"]
    rows = "SELECT ended_by, count(*) FROM session JOIN frame ON session = id GROUP BY id"
    assert logs.rows(whole, rows) == [("end of source", 40), ("SIGTERM", 50)]
    assert logs.rows(whole, "SELECT session, kind FROM event") == [(2, "log-unchecked")]


def test_a_file_that_is_read_through_is_not_called_written(logs, whole: Path, monkeypatch) -> None:
    monkeypatch.setattr(integrity, "_statement", lambda _: ENDLESS)
    monkeypatch.setattr(writer, "SLOW", 0.1)
    with open_log(whole) as log:
        log.begin(logs.session())
        logs.until(lambda: log.state.fault)
        assert log.state.fault == "its file is being read through"


def test_a_new_file_needs_no_check(logs, told, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(integrity, "_statement", lambda _: ENDLESS)
    logs.write(tmp_path / "new.db", [logs.frame(0)])
    with open_log(tmp_path / "none.db", tell=told.append) as log:
        log.begin(logs.session())
        log.end("SIGTERM")
    assert told == []


def test_a_damaged_name_is_no_reason_to_refuse_a_log(logs, whole: Path, edge_camera) -> None:
    logs.change(whole, "UPDATE session SET model = CAST(x'ff61' AS TEXT)")
    logs.write(whole, [logs.frame(0)])
    said = edge_camera("log", "summary", whole)
    assert said.returncode == 0, said.stderr
    assert edge_camera("log", "merge", whole.with_name("merged.db"), whole).returncode == 0
    rows = logs.rows(whole.with_name("merged.db"), "SELECT model FROM session ORDER BY id")
    assert rows == [("\N{REPLACEMENT CHARACTER}a",), ("colours",)]


def test_of_two_programs_on_a_damaged_log_one_sets_it_aside(logs, told, whole: Path, monkeypatch) -> None:
    """The other one finds it damaged, too, but when it is through, the first one writes to a new one."""
    damage(whole, "overwritten")
    run, first = integrity.Check.run, []

    def other_program_is_faster(self: integrity.Check, database: sqlite3.Connection, path: Path) -> bool:
        if not first:
            first.append(None)
            logs.write(path, [logs.frame(0), logs.frame(1)])
        return run(self, database, path)

    monkeypatch.setattr(integrity.Check, "run", other_program_is_faster)
    with open_log(whole, tell=told.append) as log:
        log.begin(logs.session())
        log.add(logs.frame(7))
        log.end("frames")
    assert told == []
    assert len(list(whole.parent.glob("*.damaged-*"))) == 1
    rows = "SELECT ended_by, count(*) FROM session JOIN frame ON session = id GROUP BY id"
    assert logs.rows(whole, rows) == [("end of source", 2), ("frames", 1)]


def test_a_run_tells_what_its_log_says_at_the_very_end(edge_camera, fake, whole: Path, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(integrity, "_statement", lambda _: ENDLESS)
    model = fake.write_fake(tmp_path / "m.fake")
    said = edge_camera("run", "-m", model, "-s", "test-pattern", "--frames", 9, "--log", whole, "-q")
    assert said.returncode == 0
    assert "The run ended before the log 'whole.db' was read through" in said.stderr


def test_what_a_hurried_run_left_unchecked_is_found_by_the_next(logs, told, whole: Path, monkeypatch) -> None:
    data = bytearray(whole.read_bytes())
    ((page,),) = logs.rows(whole, "SELECT rootpage FROM sqlite_master WHERE name = 'frame'")
    data[4096 * (page - 1) : 4096 * page] = b"\xff" * 4096
    whole.write_bytes(data)
    with monkeypatch.context() as patch:
        patch.setattr(integrity, "_statement", lambda _: ENDLESS)
        with open_log(whole) as log:
            log.begin(logs.session())
            log.end("SIGTERM")
    assert logs.rows(whole, "SELECT ended_by FROM session") == [("end of source",), ("SIGTERM",)]
    with open_log(whole, tell=told.append):
        pass
    assert told.kinds == ["log-damaged"]


def test_a_file_that_is_checked_in_time_is_not_interrupted(logs, told, whole: Path) -> None:
    logs.write(whole, [logs.frame(0)])
    with open_log(whole, tell=told.append) as log:
        log.begin(logs.session())
        log.end("frames")
    assert told == []


def test_no_damage_stops_a_run(logs, whole: Path, tmp_path: Path) -> None:
    """Its rows are in the old file, where what is broken there does not matter to them, or in a new one."""
    for seed in range(COPIES):
        path = damaged_copy(whole, tmp_path, seed)
        logs.write(path, [logs.frame(0, name="the new one")])
        ours = "SELECT count(*) FROM frame WHERE name = 'the new one'"
        assert logs.rows(path, ours) == [(1,)], seed


@pytest.mark.parametrize("command", COMMANDS)
def test_no_damage_is_called_a_fault_of_the_program(edge_camera, whole: Path, tmp_path: Path, command: str) -> None:
    for seed in range(COPIES):
        path = damaged_copy(whole, tmp_path, seed)
        said = edge_camera("log", *COMMANDS[command](path, tmp_path))
        (tmp_path / "merged.db").unlink(missing_ok=True)
        if said.returncode:
            assert (said.returncode, said.stderr.count("\n")) == (2, 1), seed
            assert "damaged" in said.stderr, seed


@pytest.mark.parametrize("command", ["summary", "compare", "merge"])  # those that read it
def test_a_table_whose_name_is_no_text_is_damage(edge_camera, whole: Path, tmp_path: Path, command: str) -> None:
    replace(whole, b"throttled TEXT", b"throttle\xbd TEXT")
    said = edge_camera("log", *COMMANDS[command](whole, tmp_path))
    assert said.returncode == 2
    assert "damaged" in said.stderr
