"""What a log says: which sessions are pooled, and percentiles against sorting by hand."""

import math
import random
import sqlite3
from pathlib import Path

import pytest

from edge_apps.camera.inference.loop import Result
from edge_apps.camera.inference.session import Session
from edge_apps.camera.log import open_log
from edge_apps.camera.log.summary import summarize_log
from edge_apps.camera.sources.parse import Skipped
from edge_apps.errors import BadInput
from edge_apps.runtime.device import this_device
from edge_apps.runtime.histogram import RELATIVE_ERROR
from edge_apps.runtime.latency import STAGES

FIELDS = {
    "device": this_device(),
    "runtime": "fake 1.0",
    "threads": 1,
    "model": "colours",
    "file": "colours-int8.fake",
    "sha256": "ab" * 32,
    "target": "tflite",
    "precision": "int8",
    "input": "8×10",
    "source": "folder:x",
    "load_ms": 1.0,
    "first_ms": 2.0,
    "warmup": 5,
}


def log_run(
    path: Path, infer_ns: list[int], ended_by: str | None = "end of source", skipped: int = 0, **changes: object
) -> None:
    with open_log(path) as log:
        log.begin(Session(**{**FIELDS, **changes}))
        for sequence, nanoseconds in enumerate(infer_ns):
            times = {"capture": 1, "decode": 0, "preprocess": 2, "infer": nanoseconds, "postprocess": 3}
            times |= {"total": nanoseconds + 6, "age": nanoseconds + 5}
            log.add(Result(sequence, "x", 0.0, (("cat", 0.5),), times))
        for sequence in range(skipped):
            log.add(Skipped(len(infer_ns) + sequence, "bad", 0.0, "corrupt", "it is truncated"))
        log.end(ended_by or "")


def test_sessions_of_one_kind_are_pooled_by_sample(tmp_path: Path) -> None:
    path = tmp_path / "latency.db"
    chance = random.Random(1)
    slow, fast = ([chance.randrange(low, low + 10**6) for _ in range(n)] for low, n in ((5 * 10**6, 30), (10**6, 70)))
    log_run(path, slow, load_ms=9.0, skipped=2)
    log_run(path, fast, load_ms=3.0)
    (group,) = summarize_log(path)
    infer = sorted(slow + fast)
    assert tuple(group.stages) == STAGES
    for percent, value in (
        (50, group.stages["infer"].p50),
        (90, group.stages["infer"].p90),
        (99, group.stages["infer"].p99),
    ):
        assert value == infer[math.ceil(percent / 100 * len(infer)) - 1] / 1e6, "nearest rank over all samples"
    assert group.stages["infer"].n == 100
    assert group.stages["infer"].max == infer[-1] / 1e6
    assert group.stages["capture"].p50 == 1e-6
    assert group.load_ms == (9.0, 3.0)
    assert group.events == {"corrupt": 2}
    assert group.unfinished == 0


@pytest.mark.parametrize(
    "change",
    [
        {"sha256": "cd" * 32},
        {"runtime": "fake 1.1"},
        {"threads": 2},
        {"source": "test-pattern"},
        {"settings": "pipelined"},
        {"governor": "powersave"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_differs_is_not_pooled(tmp_path: Path, change: dict) -> None:
    path = tmp_path / "latency.db"
    log_run(path, [10])
    log_run(path, [20], **change)
    log_run(path, [30])
    assert [group.stages["infer"].n for group in summarize_log(path)] == [2, 1]


def test_another_device_is_another_group(tmp_path: Path) -> None:
    import msgspec

    path = tmp_path / "latency.db"
    log_run(path, [10])
    log_run(path, [20], device=msgspec.structs.replace(this_device(), board="Raspberry Pi 5 Model B"))
    log_run(path, [30], device=msgspec.structs.replace(this_device(), os="Debian GNU/Linux 13"))
    first, second = summarize_log(path)
    assert (first.stages["infer"].n, second.stages["infer"].n) == (2, 1), "an upgrade is the same device"
    assert second.device.board == "Raspberry Pi 5 Model B"
    assert first.fingerprint != second.fingerprint


def test_a_run_without_a_frame_is_listed_without_figures(tmp_path: Path) -> None:
    log_run(tmp_path / "latency.db", [], skipped=1)
    (group,) = summarize_log(tmp_path / "latency.db")
    assert group.stages == {}
    assert group.events == {"corrupt": 1}


def test_a_killed_run_is_counted_as_unfinished(tmp_path: Path) -> None:
    path = tmp_path / "latency.db"
    log_run(path, [10])
    log_run(path, [20])
    database = sqlite3.connect(path)
    database.execute("UPDATE session SET ended = NULL WHERE id = 2")
    database.commit()
    database.close()
    (group,) = summarize_log(path)
    assert (len(group.started), group.unfinished) == (2, 1)


def test_a_log_without_a_session_says_so(tmp_path: Path) -> None:
    with open_log(tmp_path / "latency.db"):
        pass
    with pytest.raises(BadInput, match="holds no session yet"):
        summarize_log(tmp_path / "latency.db")


def test_a_damaged_log_is_named(tmp_path: Path) -> None:
    path = tmp_path / "latency.db"
    log_run(path, list(range(1, 2000)))
    data = bytearray(path.read_bytes())
    data[4096 * 6 : 4096 * 10] = b"\xff" * (4096 * 4)
    path.write_bytes(data)
    with pytest.raises(BadInput, match=r"latency\.db' is damaged"):
        summarize_log(path)


def test_dropped_rows_are_replaced_by_the_histograms_of_their_windows(logs, tmp_path: Path, clock) -> None:
    """Three windows: one whose rows are gone, one whose rows are there in part, one that is whole."""
    path = tmp_path / "latency.db"
    chance = random.Random(2)
    infer = [chance.randrange(10**6, 10**8) for _ in range(900)]
    with open_log(path) as log:
        log.begin(logs.session())
        for sequence, nanoseconds in enumerate(infer):
            log.add(logs.frame(sequence, infer=nanoseconds))
            clock.pass_(10.001 if sequence in (299, 599) else 0)
        log.end("frames")
    (before,) = summarize_log(path)
    assert (before.by_histogram, before.missing, before.frames_dropped) == (0, 0, 0)
    logs.change(path, "DELETE FROM frame WHERE sequence < 400")
    logs.change(path, "UPDATE session SET frames_dropped = 400")
    (group,) = summarize_log(path)
    assert (group.frames_dropped, group.by_histogram, group.missing) == (400, 600, 0)
    told, exact = group.stages["infer"], before.stages["infer"]
    assert (told.n, told.max) == (900, exact.max)
    assert told.mean == pytest.approx(exact.mean, rel=1e-12)
    for name in ("p50", "p90", "p95", "p99"):
        assert getattr(told, name) == pytest.approx(getattr(exact, name), rel=RELATIVE_ERROR)
    assert group.fps == pytest.approx(before.fps, rel=1e-9)
    logs.change(path, "DELETE FROM window WHERE number = 0")
    (group,) = summarize_log(path)
    assert (group.stages["infer"].n, group.by_histogram, group.missing) == (600, 300, 300)


def test_frames_per_second_are_of_the_time_between_first_and_last(logs, tmp_path: Path, clock) -> None:
    path = tmp_path / "latency.db"
    for _ in range(2):
        with open_log(path) as log:
            log.begin(logs.session())
            clock.pass_(500)  # until the first frame: no time of frames
            for sequence in range(11):
                log.add(logs.frame(sequence))
                clock.pass_(2)
            log.end("frames")
    (group,) = summarize_log(path)
    assert group.fps == pytest.approx(20 / 40, rel=0.05)


def test_one_frame_has_no_rate(logs, tmp_path: Path) -> None:
    logs.write(tmp_path / "latency.db", [logs.frame(0)])
    assert summarize_log(tmp_path / "latency.db")[0].fps is None


def test_how_the_device_did(logs, tmp_path: Path) -> None:
    path = tmp_path / "latency.db"
    samples = [
        logs.sample(temperature_c=50.0, clock_mhz=1500.0),
        logs.sample(temperature_c=81.5, clock_mhz=600.0, throttled=("frequency capped", "under-voltage")),
        logs.sample(temperature_c=None, throttled=("under-voltage (earlier)",)),
        logs.sample(throttled=("frequency capped",), power_mode="15W", memory_mb=120.0),
        logs.sample(throttled=None, clock_mhz=None),
    ]
    logs.write(path, [logs.frame(0), *samples], governor="ondemand")
    (group,) = summarize_log(path)
    state = group.state
    assert (state.samples, state.throttled) == (5, 2 / 4)
    assert state.throttled_by == {"frequency capped": 2, "under-voltage": 1}
    assert (state.temperature_max, state.clock_min, state.memory_max) == (81.5, 600.0, 120.0)
    assert (state.power_modes, group.governor) == (("15W",), "ondemand")
    assert group.power == "governor ondemand; power mode 15W"


def test_another_power_mode_is_another_group(logs, tmp_path: Path) -> None:
    """A session is in the modes that its samples show; one without a sample, or on a machine without them, in none."""
    path = tmp_path / "latency.db"
    for modes in (["15W"], ["MAXN"], ["", "15W"], ["15W", "MAXN"], [""], []):
        logs.write(path, [logs.frame(0), *(logs.sample(power_mode=mode) for mode in modes)])
    assert [(group.state.power_modes, len(group.started)) for group in summarize_log(path)] == [
        (("15W",), 2),
        (("MAXN",), 1),
        (("15W", "MAXN"), 1),
        ((), 2),
    ]


def test_a_histogram_that_is_damaged_is_named(logs, tmp_path: Path) -> None:
    path = tmp_path / "latency.db"
    logs.write(path, [logs.frame(n) for n in range(10)])
    logs.change(path, "DELETE FROM frame")
    logs.change(path, "UPDATE session SET frames_dropped = 10")
    logs.change(path, "UPDATE window SET histogram = x'00ff'")
    with pytest.raises(BadInput, match=r"latency\.db' is damaged: a histogram of format 0"):
        summarize_log(path)
