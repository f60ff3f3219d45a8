"""Logs of version 1: read as they are, upgraded when they are written to, nothing lost."""

import contextlib
import sqlite3
from pathlib import Path

import pytest

from edge_apps.camera.log import read_log, schema
from edge_apps.camera.log.merge import merge_logs
from edge_apps.camera.log.summary import summarize_log
from edge_apps.runtime.device import this_device

OLD_FRAMES = (
    "session, sequence, name, captured_at, capture_ns, preprocess_ns, infer_ns, postprocess_ns, total_ns, label"
)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "old.db"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.executescript(Path(__file__).with_name("version_1.sql").read_text())
        database.execute("PRAGMA journal_mode = WAL")
    return path


def test_the_tables_are_what_their_columns_say() -> None:
    with contextlib.closing(sqlite3.connect(":memory:")) as database:
        schema.create(database)
        assert schema.is_current(database)
        for table in schema.TABLES:
            assert schema.columns(table) == [row[1] for row in database.execute(f"PRAGMA table_info({table})")]


def test_version_1_is_read_as_it_is(old: Path) -> None:
    before = old.read_bytes()
    (group,) = summarize_log(old)
    assert (len(group.started), group.unfinished, group.load_ms) == (2, 1, (10.5, 11.5))
    assert group.device.board == group.device_name == "Raspberry Pi 4 Model B Rev 1.4"
    assert group.device_id == group.fingerprint == "abcdef012345"
    assert group.events == {"corrupt": 3}
    assert list(group.stages) == ["capture", "preprocess", "infer", "postprocess", "total"], "what it measured"
    assert group.stages["infer"].p50 == 310e-6
    assert old.read_bytes() == before
    assert [p.name for p in old.parent.iterdir()] == ["old.db"]


def test_version_1_is_read_on_a_read_only_disk(old: Path, monkeypatch) -> None:
    """``mode=rw`` fails there; the copy that is upgraded is SQLite's own."""
    connect = sqlite3.connect

    def refuse(name, *arguments, **options):
        if "mode=rw" in str(name):
            raise sqlite3.OperationalError("unable to open database file")
        return connect(name, *arguments, **options)

    monkeypatch.setattr(sqlite3, "connect", refuse)
    (group,) = summarize_log(old)
    assert group.stages["total"].n == 3


def test_version_1_is_upgraded_for_writing_and_nothing_is_lost(logs, old: Path) -> None:
    frames, events = (
        logs.rows(old, f"SELECT {OLD_FRAMES} FROM frame"),
        logs.rows(old, "SELECT session, at, kind, sequence, name, detail FROM event ORDER BY session, id"),
    )
    logs.write(old, [logs.frame(0)])
    assert logs.rows(old, f"SELECT {OLD_FRAMES} FROM frame WHERE session < 3") == frames
    assert logs.rows(old, "SELECT session, at, kind, sequence, name, detail FROM event") == events
    assert logs.rows(old, "SELECT session, number FROM event") == [(1, 0), (1, 1), (2, 0)]
    assert logs.rows(old, "SELECT offset_ns, decode_ns, age_ns FROM frame WHERE session < 3") == [
        (0, None, None),
        (12_500_000_000, None, None),
        (0, None, None),
    ]
    assert logs.rows(old, "SELECT board, soc, os, governor, frames_dropped FROM session WHERE id = 1") == [
        ("Raspberry Pi 4 Model B Rev 1.4", "brcm,bcm2711", "Debian GNU/Linux 12", "", 0)
    ]
    assert logs.rows(old, "PRAGMA user_version") == [(schema.SCHEMA_VERSION,)]
    assert logs.rows(old, "SELECT id, ended IS NULL FROM session") == [(1, 0), (2, 1), (3, 0)]
    assert logs.rows(old, "PRAGMA integrity_check") == [("ok",)]
    assert len(logs.rows(old, "SELECT DISTINCT uuid FROM session")) == 3
    assert len(summarize_log(old)) == 2


def test_version_2_is_read_and_upgraded(logs, tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    logs.write(path, [logs.frame(0)])
    logs.change(path, "ALTER TABLE session DROP COLUMN settings")
    logs.change(path, "PRAGMA user_version = 2")
    assert [group.settings for group in summarize_log(path)] == [""]
    logs.write(path, [logs.frame(1)])
    assert logs.rows(path, "SELECT settings FROM session") == [("",), ("",)]
    assert logs.rows(path, "PRAGMA user_version") == [(schema.SCHEMA_VERSION,)]


def test_version_3_is_read_and_upgraded_and_its_device_is_the_old_one(logs, tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    for _ in range(2):
        logs.write(path, [logs.frame(0)])
    for column in ("device_id", "device_name"):
        logs.change(path, f"ALTER TABLE session DROP COLUMN {column}")
    logs.change(path, "PRAGMA user_version = 3")
    before = path.read_bytes()
    (group,) = summarize_log(path)
    device = this_device()
    assert (group.device_id, group.device_name, len(group.started)) == (device.fingerprint, device.hardware, 2)
    assert path.read_bytes() == before
    logs.write(path, [logs.frame(1)], device_id="3f2a91c0-6f0e-4b6a-9a51-0c2f3d4e5f60", device_name="kitchen-pi")
    assert logs.rows(path, "PRAGMA user_version") == [(schema.SCHEMA_VERSION,)]
    assert [(g.device_name, len(g.started)) for g in summarize_log(path)] == [(device.hardware, 2), ("kitchen-pi", 1)]


def test_logs_of_all_versions_are_merged(logs, old: Path, tmp_path: Path) -> None:
    third, new = tmp_path / "3.db", tmp_path / "4.db"
    for path, name in ((third, ""), (new, "kitchen-pi")):
        logs.write(path, [logs.frame(0)], device_id=name and "3f2a91c0-6f0e-4b6a-9a51-0c2f3d4e5f60", device_name=name)
    for column in ("device_id", "device_name"):
        logs.change(third, f"ALTER TABLE session DROP COLUMN {column}")
    logs.change(third, "PRAGMA user_version = 3")
    assert merge_logs(tmp_path / "all.db", [old, third, new]) == 4
    assert [(group.device_name, group.device_id) for group in summarize_log(tmp_path / "all.db")] == [
        ("Raspberry Pi 4 Model B Rev 1.4", "abcdef012345"),
        (this_device().hardware, this_device().fingerprint),
        ("kitchen-pi", "3f2a91c0-6f0e-4b6a-9a51-0c2f3d4e5f60"),
    ]


def test_copies_of_a_log_of_version_1_are_the_same_sessions(logs, old: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    copy.write_bytes(old.read_bytes())
    logs.write(copy, [logs.frame(0)])  # one of them is upgraded
    assert merge_logs(tmp_path / "both.db", [old, copy]) == 3
    assert logs.rows(tmp_path / "both.db", "SELECT count(*) FROM frame") == [(4,)]
    assert logs.rows(tmp_path / "both.db", "SELECT count(*) FROM event") == [(3,)]


def test_a_session_whose_device_cannot_be_read_is_kept(logs, old: Path) -> None:
    logs.change(old, "UPDATE session SET device = ? WHERE id = 1", "no JSON")
    with contextlib.closing(read_log(old)) as database:
        assert database.execute("SELECT id, board != '' FROM session").fetchall() == [(1, 0), (2, 1)]


def test_an_upgrade_that_is_interrupted_leaves_version_1(logs, old: Path, monkeypatch) -> None:
    before = logs.rows(old, "SELECT * FROM frame")
    complete = schema._complete_session

    def interrupted(database, id_):
        complete(database, id_)
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(schema, "_complete_session", interrupted)
    from edge_apps.camera.log import open_log
    from edge_apps.errors import EdgeError

    with pytest.raises(EdgeError, match="full"), open_log(old):
        pass
    assert logs.rows(old, "SELECT * FROM frame") == before
    assert logs.rows(old, "PRAGMA user_version") == [(1,)]
