"""One run from start to end: what is counted, logged and closed, and how it ends."""

import functools
import os
import signal
import sqlite3
import time
from pathlib import Path

import pytest

import edge_apps.camera.run as camera
from edge_apps.camera.inference.loop import Result
from edge_apps.camera.inference.model import open_model
from edge_apps.camera.inference.model_watcher import Watcher, state_of
from edge_apps.camera.inference.snapshot import SnapshotOptions
from edge_apps.camera.log import Log
from edge_apps.camera.log.sink import LogOptions
from edge_apps.camera.log.summary import summarize_log
from edge_apps.camera.run import Options, Tally, Watch, labels_shown, run
from edge_apps.camera.service.systemd_notify import Systemd
from edge_apps.camera.sources.parse import Event, Skipped, SourceOptions, parse_source
from edge_apps.errors import BadInput, EdgeError


class Recorder:
    """An output that remembers; ``at`` is called with each item."""

    def __init__(self, at=lambda item: None) -> None:  # noqa: ARG005
        self.items: list[Result | Skipped] = []
        self.at = at
        self.session = None
        self.tally: Tally | None = None
        self.closed = False

    def started(self, session, passed_over) -> None:  # noqa: ARG002
        self.session = session

    def serving(self, url) -> None:
        self.url = url

    def item(self, item, tally) -> None:  # noqa: ARG002
        self.items.append(item)
        self.at(item)

    def finished(self, tally) -> None:
        self.tally = tally

    def close(self) -> None:
        self.closed = True


def logged(path: Path, **options: object) -> Options:
    return Options(warmup=1, log=LogOptions(path), **options)


def query(path: Path, sql: str) -> list[tuple]:
    database = sqlite3.connect(path)
    try:
        return database.execute(sql).fetchall()
    finally:
        database.close()


def test_a_model_file_whose_name_is_no_utf8_is_logged(fake, pictures: Path, tmp_path: Path) -> None:
    path = fake.write_fake(Path(os.fsdecode(os.fsencode(tmp_path) + b"/m\xff.fake")))
    output, log = Recorder(), tmp_path / "latency.db"
    run(
        parse_source(f"folder:{pictures}"),
        open_model(path, None, None, 1),
        output,
        logged(log),
    )
    assert query(log, "SELECT file, ended_by FROM session") == [(r"m\udcff.fake", "end of source")]


def test_every_frame_is_told_counted_and_logged(model: Path, pictures: Path, tmp_path: Path) -> None:
    output, log = Recorder(), tmp_path / "latency.db"
    opened = open_model(model, None, None, 1)
    tally = run(parse_source(f"folder:{pictures}"), opened, output, Options(warmup=5, log=LogOptions(log)))
    assert [item.top[0][0] for item in output.items] == ["red", "green", "blue"]
    assert (tally.frames, tally.skipped, tally.ended_by) == (3, 0, "end of source")
    assert tally.labels == {"red": 1, "green": 1, "blue": 1}
    assert tally.times.summaries()["total"].n == 3
    assert output.tally is tally
    assert output.closed
    assert opened.runner.closed
    assert opened.runner.calls == 5 + 3, "warm-up first"
    logged = query(log, "SELECT sequence, name, label, infer_ns, total_ns FROM frame")
    assert logged == [(i.sequence, i.name, i.top[0][0], i.times["infer"], i.times["total"]) for i in output.items]
    ((sha256, load_ms, first_ms, warmup, file, source),) = query(
        log, "SELECT sha256, load_ms, first_ms, warmup, file, source FROM session"
    )
    assert len(sha256) == 64
    assert load_ms > 0
    assert first_ms > 0
    assert (warmup, file, source) == (5, model.name, f"folder:{pictures}")


def test_frames_ends_an_endless_source(model: Path, tmp_path: Path) -> None:
    log = tmp_path / "latency.db"
    tally = run(
        parse_source("test-pattern"),
        open_model(model, None, None, 1),
        Recorder(),
        Options(warmup=1, frames=7, log=LogOptions(log)),
    )
    assert (tally.frames, tally.ended_by) == (7, "frames")
    assert query(log, "SELECT count(*) FROM frame") == [(7,)]


def test_the_throughput_is_that_of_the_log(model: Path, tmp_path: Path) -> None:
    """A run of few frames at a pace: n frames have n − 1 intervals, and the way to the first is none."""
    log = tmp_path / "latency.db"
    source = parse_source("test-pattern", SourceOptions(fps=20.0))
    tally = run(source, open_model(model, None, None, 1), Recorder(), Options(warmup=1, frames=6, log=LogOptions(log)))
    (group,) = summarize_log(log)
    assert tally.fps == pytest.approx(group.fps, rel=0.05)
    assert tally.fps == pytest.approx(20, rel=0.15)


def test_frames_counts_classified_ones(model: Path, pictures: Path) -> None:
    (pictures / "a/red.png").write_bytes(b"")
    output = Recorder()
    run(parse_source(f"folder:{pictures}"), open_model(model, None, None, 1), output, Options(warmup=1, frames=1))
    assert [item.name for item in output.items] == ["a/red.png", "b/green.png"]


def test_a_corrupt_picture_is_an_event_and_the_run_goes_on(model: Path, pictures: Path, tmp_path: Path) -> None:
    (pictures / "b/green.png").write_bytes(b"")
    log = tmp_path / "latency.db"
    tally = run(
        parse_source(f"folder:{pictures}"),
        open_model(model, None, None, 1),
        Recorder(),
        logged(log),
    )
    assert (tally.frames, tally.skipped) == (2, 1)
    assert query(log, "SELECT sequence, name, kind FROM event") == [(1, "b/green.png", "corrupt")]
    assert query(log, "SELECT sequence FROM frame") == [(0,), (2,)]


def test_nothing_but_corrupt_pictures_is_a_failure(model: Path, pictures: Path, tmp_path: Path) -> None:
    for picture in pictures.rglob("*.png"):
        picture.write_bytes(b"no")
    log, opened = tmp_path / "latency.db", open_model(model, None, None, 1)
    with pytest.raises(EdgeError, match=r"None of the 3 frames .* The first: Corrupt image 'a/red.png'") as error:
        run(parse_source(f"folder:{pictures}"), opened, Recorder(), logged(log))
    assert error.value.exit_status == 1
    assert opened.runner.closed
    assert query(log, "SELECT count(*) FROM event") == [(3,)]
    assert query(log, "SELECT ended_by FROM session") == [("end of source",)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_in_order(model: Path, tmp_path: Path, number: signal.Signals) -> None:
    before = signal.getsignal(number)
    log = tmp_path / "latency.db"
    output = Recorder(at=lambda item: os.kill(os.getpid(), number) if item.sequence == 4 else None)
    tally = run(parse_source("test-pattern"), open_model(model, None, None, 1), output, logged(log))
    assert (tally.frames, tally.ended_by) == (5, number.name)
    assert query(log, "SELECT count(*) FROM frame") == [(5,)]
    assert query(log, "SELECT ended_by FROM session WHERE ended IS NOT NULL") == [(number.name,)]
    assert signal.getsignal(number) is before


def test_a_runtime_that_breaks_leaves_a_complete_log(fake, tmp_path: Path) -> None:
    opened = open_model(fake.write_fake(tmp_path / "m.fake", fails_at=4), None, None, 1)
    log, output = tmp_path / "latency.db", Recorder()
    with pytest.raises(RuntimeError, match="broke"):
        run(parse_source("test-pattern"), opened, output, logged(log))
    assert query(log, "SELECT count(*) FROM frame") == [(2,)], "one of four inferences was the warm-up, one failed"
    assert query(log, "SELECT ended_by FROM session") == [("RuntimeError: the fake runtime broke",)]
    assert opened.runner.closed
    assert output.closed


def test_more_labels_than_there_are_is_refused_before_anything_runs(model: Path, tmp_path: Path) -> None:
    opened = open_model(model, None, None, 1)
    with pytest.raises(BadInput, match="has 3 labels"):
        run(
            parse_source("test-pattern"),
            opened,
            Recorder(),
            logged(tmp_path / "latency.db", top_k=4),
        )
    assert opened.runner.calls == 0
    assert opened.runner.closed
    assert not (tmp_path / "latency.db").exists()


def test_labels_shown() -> None:
    assert labels_shown(None, 10) == 3
    assert labels_shown(None, 2) == 2
    assert labels_shown(10, 10) == 10


def test_a_replaced_model_takes_over_between_two_frames(fake, model: Path, tmp_path: Path) -> None:
    """Its frames are a session of their own; what does not work is told, and the old model goes on."""
    opened: list = []

    def open_again():
        opened.append(open_model(model, None, None, 1))
        return opened[-1]

    def at(item) -> None:
        if isinstance(item, Event):
            kinds.append(item.kind)
            if item.kind == "model-refused":
                fake.write_fake(model, manifest={"model": "brighter"})
            else:
                os.kill(os.getpid(), signal.SIGTERM)
        elif len(output.items) == 3:
            model.write_bytes(b"garbage")

    kinds: list[str] = []
    output, log = Recorder(at), tmp_path / "latency.db"
    options = Options(warmup=2, log=LogOptions(log), watch=Watch(model, open_again, state_of(model)))
    tally = run(parse_source("test-pattern"), open_again(), output, options)
    assert kinds == ["model-refused", "model-changed"]
    assert tally.ended_by == "SIGTERM"
    assert all(one.runner.closed for one in opened)
    assert query(log, "SELECT model, ended_by, warmup FROM session ORDER BY id") == [
        ("colours", "another model", 2),
        ("brighter", "SIGTERM", 2),
    ]
    frames = query(log, "SELECT session, count(*), min(sequence) FROM frame GROUP BY session ORDER BY session")
    assert sum(count for _, count, _ in frames) == tally.frames
    assert frames[1][2] == frames[0][1], "no frame was lost between the two"


def test_systemd_hears_which_model_runs(fake, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def at(item) -> None:
        if isinstance(item, Event):
            os.kill(os.getpid(), signal.SIGTERM)

    heard: list[str] = []
    monkeypatch.setattr(Systemd, "_send", lambda _, *lines: heard.extend(lines))
    monkeypatch.setattr(camera, "Watcher", functools.partial(Watcher, every=0.01))
    other = fake.write_fake(tmp_path / "other-int8.fake")
    has_changed = Watch(model, lambda: open_model(other, None, None, 1), seen=())
    run(parse_source("test-pattern"), open_model(model, None, None, 1), Recorder(at), Options(watch=has_changed))
    assert [line for line in heard if line.startswith("STATUS")] == [
        "STATUS=colours-int8.fake on test-pattern",
        "STATUS=other-int8.fake on test-pattern",
    ]


@pytest.mark.parametrize("pipelined", [False, True])
def test_what_was_asked_for_is_kept(model: Path, pictures: Path, tmp_path: Path, pipelined: bool) -> None:
    snapshots = SnapshotOptions(tmp_path / "kept", ("green",), 0.0)
    options = Options(warmup=1, snapshots=snapshots, pipelined=pipelined)
    run(parse_source(f"folder:{pictures}"), open_model(model, None, None, 1), Recorder(), options)
    (kept,) = (tmp_path / "kept").iterdir()
    assert "_000001_green_" in kept.name


def test_a_label_to_wait_for_must_exist(model: Path, pictures: Path, tmp_path: Path) -> None:
    opened = open_model(model, None, None, 1)
    options = Options(warmup=1, snapshots=SnapshotOptions(tmp_path, ("purple",)))
    with pytest.raises(BadInput, match="'purple', which this model does not know"):
        run(parse_source(f"folder:{pictures}"), opened, Recorder(), options)
    assert opened.runner.closed


def test_what_is_below_the_threshold_is_counted_and_named_nowhere(model: Path, pictures: Path) -> None:
    options = Options(warmup=1, threshold=1.0)
    tally = run(parse_source(f"folder:{pictures}"), open_model(model, None, None, 1), Recorder(), options)
    assert (tally.frames, tally.labels.total()) == (3, 0)


def test_a_pipelined_run_does_not_wait_for_a_frame_that_nobody_wants(model: Path) -> None:
    source = parse_source("test-pattern", SourceOptions(fps=0.02))
    start = time.monotonic()
    tally = run(source, open_model(model, None, None, 1), Recorder(), Options(warmup=1, frames=1, pipelined=True))
    assert tally.frames == 1
    assert time.monotonic() - start < 25, "the next frame would come after 50 s"


def test_what_was_classified_is_told_although_the_log_was_lost(
    model: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = Recorder()

    def breaks(*_: object) -> None:
        raise EdgeError("the disk is full")

    monkeypatch.setattr(Log, "close", breaks)
    with pytest.raises(EdgeError, match="the disk is full"):
        run(parse_source(f"folder:{pictures}"), open_model(model, None, None, 1), output, logged(tmp_path / "l.db"))
    assert output.tally is not None
    assert output.tally.frames == 3


def test_what_is_told_last_is_heard_and_logged(model: Path, pictures: Path, tmp_path: Path) -> None:
    """Snapshots are written by a thread; what it could not write is known when it has ended."""
    folder, log = tmp_path / "kept", tmp_path / "latency.db"

    def spoil(item) -> None:
        if isinstance(item, Result) and item.sequence == 0:
            folder.rmdir()
            folder.write_text("a file now")

    output = Recorder(spoil)
    folder.mkdir()
    options = Options(warmup=1, log=LogOptions(log), snapshots=SnapshotOptions(folder, ("green", "blue"), 0.0))
    run(parse_source(f"folder:{pictures}"), open_model(model, None, None, 1), output, options)
    last = [item.reason for item in output.items if isinstance(item, Event)][-1]
    assert last == "2 snapshots were not kept; 0 were."
    assert (last,) in query(log, "SELECT detail FROM event")
