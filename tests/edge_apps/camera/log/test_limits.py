"""Caps of size and age: what goes first, what is counted, what stays."""

import random
import time
from pathlib import Path

import pytest

from edge_apps.camera.log import disk, limits, open_log, writer
from edge_apps.camera.log.summary import summarize_log
from edge_apps.errors import BadInput
from edge_apps.runtime.histogram import RELATIVE_ERROR
from edge_apps.runtime.latency import summarize


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "COMMIT_EVERY", 0.01)
    monkeypatch.setattr(disk, "TRIM_EVERY", 0.0)


def size(path: Path) -> int:
    return sum(p.stat().st_size for p in path.parent.glob(f"{path.name}*") if not p.name.endswith("-shm"))


def test_caps_that_leave_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="too small: allow 1M or more"), open_log(tmp_path / "x.db", max_bytes=999_999):
        pass
    with pytest.raises(BadInput, match="holds none"), open_log(tmp_path / "x.db", max_age=0):
        pass
    assert not list(tmp_path.iterdir())


def test_the_size_holds_all_the_time_and_the_figures_are_still_right(logs, tmp_path: Path, clock) -> None:
    """Frames go, oldest first, across a window that is complete and one that is not; histograms speak for them."""
    path, cap = tmp_path / "latency.db", 2_000_000
    chance = random.Random(5)
    infer = [chance.randrange(10**6, 10**8) for _ in range(24_000)]
    largest = 0
    with open_log(path, max_bytes=cap) as log:
        log.begin(logs.session())
        for sequence, nanoseconds in enumerate(infer):
            log.add(logs.frame(sequence, name="x" * 100, infer=nanoseconds))
            clock.pass_(0.002)
            if sequence % 250 == 0:
                logs.until(lambda: not log._inbox and not log.state.waiting)
                largest = max(largest, size(path))
        log.end("frames")
    assert 1_000_000 < largest <= cap
    assert size(path) <= cap
    ((kept, first, dropped),) = logs.rows(
        path, "SELECT (SELECT count(*) FROM frame), (SELECT min(sequence) FROM frame), frames_dropped FROM session"
    )
    assert kept + dropped == 24_000
    assert first == dropped > 8_000, "the oldest went"
    (group,) = summarize_log(path)
    assert (group.frames_dropped, group.missing) == (dropped, 0)
    assert dropped <= group.by_histogram <= dropped + 5_000, "whole windows"
    told, exact = group.stages["infer"], summarize(infer)
    assert (told.n, told.max) == (exact.n, exact.max)
    assert told.mean == pytest.approx(exact.mean, rel=1e-9)
    for name in ("p50", "p90", "p95", "p99"):
        assert getattr(told, name) == pytest.approx(getattr(exact, name), rel=RELATIVE_ERROR)
    assert logs.rows(path, "PRAGMA integrity_check") == [("ok",)]


def test_a_lower_cap_makes_the_file_smaller_and_old_sessions_go_last(logs, told, tmp_path: Path) -> None:
    path = tmp_path / "latency.db"
    for _ in range(3):
        logs.write(path, [logs.frame(n, name="x" * 300) for n in range(5_000)])
    before = size(path)
    assert before > 4_000_000
    with open_log(path, max_bytes=1_000_000, tell=told.append) as log:
        log.begin(logs.session())
        log.add(logs.frame(0))
        logs.until(lambda: size(path) < 1_000_000)
        log.end("frames")
    assert size(path) < 1_000_000
    dropped = [n for (n,) in logs.rows(path, "SELECT frames_dropped FROM session")]
    assert dropped[:2] == [5_000, 5_000]
    assert dropped[2] > 0
    assert dropped[3] == 0
    (group,) = summarize_log(path)
    assert (group.stages["total"].n, group.missing) == (15_001, 0), "windows speak for them"
    assert told == [], "no session is gone"


def test_a_killed_run_gets_its_windows_before_its_frames_go(logs, tmp_path: Path) -> None:
    path = tmp_path / "latency.db"
    logs.write(path, [logs.frame(n, name="x" * 300, infer=n + 1) for n in range(5_000)])
    logs.change(path, "DELETE FROM window")
    with open_log(path, max_bytes=1_000_000) as log:
        log.begin(logs.session(threads=2))
        log.add(logs.frame(0))
        logs.until(lambda: logs.rows(path, "SELECT frames_dropped > 0 FROM session WHERE id = 1") == [(1,)])
        log.end("frames")
    group = summarize_log(path)[0]
    assert (group.stages["infer"].n, group.missing) == (5_000, 0)
    assert group.stages["infer"].p50 == pytest.approx(2_500e-6, rel=RELATIVE_ERROR)


def test_at_the_very_end_windows_events_and_sessions_go_and_it_is_told(logs, told, tmp_path: Path, monkeypatch) -> None:
    from edge_apps.camera.sources.parse import Event

    path = tmp_path / "latency.db"
    logs.write(path, [logs.frame(0), logs.sample(), *(Event(1.0, "lost", "x" * 1_000) for _ in range(3_000))])
    logs.write(path, [logs.frame(0)])
    monkeypatch.setattr(limits.Trimmer, "_room", property(lambda _: 100_000))
    with open_log(path, max_bytes=1_000_000, tell=told.append) as log:
        log.begin(logs.session())
        logs.until(lambda: size(path) < 1_000_000)
        log.end("frames")
    assert logs.rows(path, "SELECT count(*) FROM event WHERE session = 1")[0][0] < 3_000
    assert logs.rows(path, "SELECT count(*) FROM frame WHERE session = 1") == [(0,)]
    assert logs.rows(path, "SELECT count(*) FROM session WHERE id = 3") == [(1,)], "the one that runs stays"


def test_an_old_session_that_is_gone_is_an_event(logs, told, tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "latency.db"
    logs.write(path, [logs.frame(n) for n in range(7)])
    monkeypatch.setattr(limits.Trimmer, "_room", property(lambda _: 0))
    with open_log(path, max_bytes=1_000_000, tell=told.append) as log:
        log.begin(logs.session())
        logs.until(lambda: told)
        monkeypatch.undo()
        log.end("frames")
    assert told.kinds == ["log-trimmed"]
    assert "(colours, 7 frames," in told[0].reason
    assert [id_ for (id_,) in logs.rows(path, "SELECT id FROM session")] == [2]


def test_frames_that_are_too_old_go_and_their_windows_stay(logs, tmp_path: Path, clock) -> None:
    path, now = tmp_path / "latency.db", time.time()
    old = [logs.frame(n, captured_at=now - 1000 + n) for n in range(500)]
    logs.write(path, [*old, *(logs.frame(n, captured_at=now - 100) for n in range(500, 600))])
    with open_log(path, max_age=600) as log:
        log.begin(logs.session())
        log.add(logs.frame(0))
        logs.until(lambda: logs.rows(path, "SELECT frames_dropped FROM session WHERE id = 1") == [(600,)])
        assert logs.rows(path, "SELECT count(*) FROM window WHERE session = 1 AND stage = 'total'") == [(1,)]
        clock.wall_ahead += 10**9  # as on a board whose clock is set at last: a running session's age is monotonic
        log.add(logs.frame(1))
        logs.until(lambda: not log._inbox and not log.state.waiting)
        time.sleep(0.1)
        assert logs.rows(path, "SELECT count(*) FROM frame WHERE session = 2") == [(2,)]
        clock.pass_(601)
        logs.until(lambda: logs.rows(path, "SELECT count(*) FROM frame WHERE session = 2") == [(0,)])
        log.end("frames")
    (group,) = summarize_log(path)
    assert (group.stages["total"].n, group.missing) == (602, 0)
