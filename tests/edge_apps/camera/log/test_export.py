"""Tables for other programs, read back by other readers: the csv and json modules, and pyarrow."""

import base64
import csv
import json
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from edge_apps.camera.log import export as export_module
from edge_apps.camera.log import merge, schema
from edge_apps.camera.log.export import export
from edge_apps.camera.sources.parse import Event
from edge_apps.errors import BadInput, MissingExtra
from edge_apps.runtime.device import this_device
from edge_apps.runtime.histogram import Histogram

TABLES = tuple(schema.TABLES)


@pytest.fixture
def path(logs, tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setattr(merge, "AT_ONCE", 7)  # several reads
    path = tmp_path / "latency.db"
    odd = Event(3.5, "lost", 'a "quoted", comma\nand a line — ü')
    for _ in range(2):
        items = [logs.frame(n, name=f"ü,{n}.png") for n in range(20)]
        logs.write(path, [*items, odd, logs.sample(throttled=None), logs.sample(throttled=("capped",))])
    return path


def stored(logs, path: Path, table: str) -> list[tuple]:
    """What the table holds, and at the end of each row which device, model and file it is of."""
    key = "id" if table == "session" else "session"
    rows = logs.rows(path, f"SELECT {', '.join(schema.columns(table))} FROM {table} ORDER BY {key}")
    device = this_device()
    added = () if table == "session" else (device.fingerprint, device.hardware, "colours", "colours-int8.fake")
    return [(*row, *added) for row in rows]


def names_of(table: str) -> list[str]:
    return schema.columns(table) + ([] if table == "session" else ["device", "device_name", "model", "file"])


def as_text(value: object) -> str:
    if value is None:
        return ""
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


@pytest.mark.parametrize("table", TABLES)
def test_csv(logs, path: Path, table: str) -> None:
    out = path.with_name("out.csv")
    rows = stored(logs, path, table)
    assert export(path, table, "csv", out) == len(rows)
    with out.open(newline="") as stream:
        names, *found = csv.reader(stream)
    assert names == names_of(table)
    shown = [
        [base64.b64encode(v).decode() if isinstance(v, bytes) else "" if v is None else str(v) for v in r] for r in rows
    ]
    assert found == shown


@pytest.mark.parametrize("table", TABLES)
def test_json_lines(logs, path: Path, table: str) -> None:
    out = path.with_name("out.jsonl")
    rows = stored(logs, path, table)
    assert export(path, table, "jsonl", out) == len(rows)
    for line, row in zip(out.read_text().splitlines(), rows, strict=True):
        document = json.loads(line)
        assert list(document) == names_of(table)
        for name, value in zip(document, row, strict=True):
            if (table, name) in (("session", "device"), ("sample", "throttled")) and value is not None:
                assert document[name] == json.loads(value)
            else:
                assert document[name] == (base64.b64encode(value).decode() if isinstance(value, bytes) else value)


@pytest.mark.parametrize("table", TABLES)
def test_parquet(logs, path: Path, table: str, monkeypatch) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed: this test did NOT run")
    monkeypatch.setattr(export_module, "AT_ONCE", 9)
    out = path.with_name("out.parquet")
    rows = stored(logs, path, table)
    assert export(path, table, "parquet", out) == len(rows)
    read = parquet.read_table(out)
    assert read.column_names == names_of(table)
    assert [tuple(row.values()) for row in read.to_pylist()] == rows
    if table == "window":
        assert Histogram.from_bytes(read["histogram"][0].as_py()).n == 20


def test_a_table_without_a_row_is_a_file_with_its_names(logs, tmp_path: Path) -> None:
    logs.write(tmp_path / "latency.db")
    assert export(tmp_path / "latency.db", "frame", "csv", tmp_path / "out.csv") == 0
    assert (tmp_path / "out.csv").read_text() == ",".join(names_of("frame")) + "\n"
    assert export(tmp_path / "latency.db", "frame", "jsonl", tmp_path / "out.jsonl") == 0
    assert (tmp_path / "out.jsonl").read_text() == ""


def test_a_file_appears_whole_or_not_at_all(path: Path, tmp_path: Path, monkeypatch) -> None:
    out = tmp_path / "out.csv"
    out.write_text("old")

    def broken(*_: object) -> object:
        yield from (tuple(range(14)) for _ in range(10))
        raise KeyboardInterrupt

    monkeypatch.setattr(export_module, "rows", broken)
    with pytest.raises(KeyboardInterrupt):
        export(path, "frame", "csv", out)
    assert out.read_text() == "old"
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_places_that_cannot_be_written(path: Path, tmp_path: Path) -> None:
    for out in (tmp_path, Path("/proc/out.csv"), path / "out.csv", Path("/dev/full")):
        with pytest.raises(BadInput):
            export(path, "frame", "csv", out)
    with pytest.raises(BadInput, match="no text for stdout"):
        export(path, "frame", "parquet", Path("-"))
    assert path.exists()


def test_no_log_is_overwritten(logs, path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    logs.write(other, [])
    before = path.read_bytes(), other.read_bytes()
    for out in (path, other):
        with pytest.raises(BadInput, match="is a latency log itself: name another file"):
            export(path, "frame", "csv", out)
    assert (path.read_bytes(), other.read_bytes()) == before


def test_without_pyarrow_it_is_said_in_one_line(path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"needs pyarrow, which is not installed: pip install '\.\[report\]'"):
        export(path, "frame", "parquet", path.with_name("out.parquet"))


FILL = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows} - 1)
INSERT INTO frame SELECT 1, i, i * 1000000, 'frame ' || i, 1000.0 + i, 1, 2, 3, 1000000 + i % 7919, 5, 6, 7, 'cat', 0.5
FROM n"""


def exported(logs, tmp_path: Path, rows: int, format_: str) -> int:
    """The most bytes that Python held meanwhile."""
    path = tmp_path / "latency.db"
    logs.write(path, [logs.frame(0)])
    logs.change(path, FILL.format(rows=rows))
    tracemalloc.start()
    try:
        assert export(path, "frame", format_, tmp_path / "out") == rows
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("format_", ["csv", "jsonl"])
def test_twenty_thousand_rows_are_not_held_at_once(logs, tmp_path: Path, format_: str, monkeypatch) -> None:
    monkeypatch.setattr(merge, "AT_ONCE", 1_000)
    assert exported(logs, tmp_path, 20_000, format_) < 3_000_000


@pytest.mark.long
def test_a_million_frames_need_little_memory(logs, tmp_path: Path) -> None:
    """In a process of its own, by the system's figure: exports, merging, summary."""
    path = tmp_path / "latency.db"
    logs.write(path, [logs.frame(0)])
    logs.change(path, FILL.format(rows=1_000_000))
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from edge_apps.camera.log.export import export\n"
        "from edge_apps.camera.log.merge import merge_logs\n"
        "from edge_apps.camera.log.summary import summarize_log\n"
        "import pyarrow.parquet\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000\n"
        "path = Path(sys.argv[1]); before = peak()\n"
        "for format_ in ('csv', 'jsonl', 'parquet'):\n"
        "    assert export(path, 'frame', format_, path.with_name('out.' + format_)) == 1_000_000\n"
        "merge_logs(path.with_name('merged.db'), [path])\n"
        "assert summarize_log(path.with_name('merged.db'))[0].stages['infer'].n == 1_000_000\n"
        "print(peak() - before)\n"
    )
    result = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert float(result.stdout) < 200, "MB"
