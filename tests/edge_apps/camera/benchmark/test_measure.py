"""The benchmark's protocol: warm-up, measurement and its ends, on a clock that the test moves."""

import contextlib
import itertools
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest

from edge_apps.camera.benchmark import measure as bench
from edge_apps.camera.benchmark.measure import Measured, Plan, Warmup, benchmark, plan_of
from edge_apps.camera.inference.model import Opened
from edge_apps.camera.log import open_log
from edge_apps.camera.log import sink as log_sink
from edge_apps.camera.sources.parse import Event, SourceOptions, TestPattern, parse_source
from edge_apps.errors import BadInput, EdgeError
from edge_apps.runtime.content import Content
from edge_apps.runtime.sensors import Sample
from edge_apps.stop import Stop

MS = 1_000_000


def a_sample(**known: object) -> Sample:
    unknown = dict.fromkeys(("temperature_c", "clock_mhz", "throttled"))
    return Sample(**{"at": 0.0, "memory_mb": 50.0, "power_mode": "", **unknown, **known})


class Bench:
    """A runner whose inferences take what ``durations`` says, by its own clock; ``at`` does things at inferences."""

    def __init__(self, fake: ModuleType, model: Path, durations: Iterator[int]) -> None:
        outer, self.now, self.done = self, 0, []
        self.at: dict[int, Callable[[], object]] = {}
        self.take: Callable[[Sample], None] | None = None
        self.heard: list[object] = []

        class Clocked(fake.FakeRunner):
            def run(self, batch: np.ndarray) -> np.ndarray:
                outer.done.append(next(durations))
                outer.now += outer.done[-1]
                outer.at.get(len(outer.done), lambda: None)()
                return super().run(batch)

        self.runner = Clocked(Content.read(model), 1)

    def clock(self) -> int:
        return self.now

    @contextlib.contextmanager
    def watch(self, take: Callable[[Sample], None]) -> Iterator[None]:
        self.take = take
        take(a_sample(temperature_c=40.0))
        yield
        self.take = None

    def started(self, session: object, passed_over: tuple[str, ...]) -> None:
        self.heard += [session, *passed_over]

    def measuring(self, warmup: Warmup, plan: Plan) -> None:
        assert warmup.seconds >= 1
        assert plan.seconds >= 0

    def skipped(self, item: object) -> None:
        self.heard.append(item)

    def told(self, event: Event) -> None:
        self.heard.append(event)

    def going(self, measured: Measured, plan: Plan) -> None:
        """Not looked at here."""

    def close(self) -> None:
        self.heard.append("closed")

    def run(self, plan: Plan, source: object = None, **options: object) -> tuple[object, Measured]:
        opened = Opened(self.runner, "", 12.5, ())
        return benchmark(source or TestPattern(), opened, plan, self, clock=self.clock, watch=self.watch, **options)


@pytest.fixture
def on_a_clock(fake: ModuleType, model: Path) -> Callable[[Iterator[int]], Bench]:
    return lambda durations: Bench(fake, model, durations)


def test_a_burst_goes_on_until_both_are_reached(on_a_clock: Callable[..., Bench]) -> None:
    by_count = on_a_clock(itertools.repeat(50 * MS))
    _, measured = by_count.run(Plan(seconds=2, inferences=100))
    assert len(measured.infer_ns) == 100  # 2 s are over after 40
    assert measured.seconds == pytest.approx(5.0)
    assert measured.stopped_by is None
    by_time = on_a_clock(itertools.repeat(10 * MS))
    _, measured = by_time.run(Plan(seconds=2, inferences=100))
    assert len(measured.infer_ns) == 200
    assert by_time.runner.closed
    assert by_time.heard[-1] == "closed"


def test_the_default_burst_is_1024_and_a_minute(on_a_clock: Callable[..., Bench]) -> None:
    _, measured = on_a_clock(itertools.repeat(100 * MS)).run(plan_of(False, None, None, None))
    assert len(measured.infer_ns) == 1024
    _, measured = on_a_clock(itertools.repeat(30 * MS)).run(plan_of(True, None, None, None))
    assert measured.seconds == pytest.approx(60.0)


def test_every_measured_inference_is_kept_and_no_other(on_a_clock: Callable[..., Bench]) -> None:
    rng = np.random.default_rng(3)
    durations = (rng.gamma(9, 1, 5000) * MS).astype(np.int64)
    here = on_a_clock(iter(durations.tolist()))
    _, measured = here.run(Plan(seconds=0, inferences=500))
    cold_and_warm = measured.warmup.inferences
    assert measured.infer_ns.tolist() == durations[cold_and_warm : cold_and_warm + 500].tolist() == here.done[-500:]
    ends = np.cumsum(measured.infer_ns)
    for second in range(int(measured.seconds)):
        expected = [d for d, end in zip(measured.infer_ns, ends, strict=True) if second <= end / 1e9 < second + 1]
        assert measured.between(second, second + 1).tolist() == expected
    assert len(measured.between(0, 10_000)) == 500


def test_the_warm_up_waits_until_the_machine_settles(on_a_clock: Callable[..., Bench]) -> None:
    cold, getting_faster, steady = [400], [60 + (3 * 32 - i) for i in range(3 * 32)], itertools.repeat(60)
    _, measured = on_a_clock(n * MS for n in itertools.chain(cold, getting_faster, steady)).run(Plan(0, 10))
    assert measured.warmup.settled
    assert measured.warmup.inferences == 1 + 3 * 32 + 2 * 32  # the first steady window differs from the one before
    assert set(measured.infer_ns) == {60 * MS}


def test_the_warm_up_lasts_a_second_at_least(on_a_clock: Callable[..., Bench]) -> None:
    _, measured = on_a_clock(itertools.repeat(MS)).run(Plan(0, 10))
    assert measured.warmup == Warmup(1 + 1024, pytest.approx(1.024), True)


def test_a_machine_that_never_settles_is_measured_anyway(on_a_clock: Callable[..., Bench]) -> None:
    restless = (int(10 * MS * 1.05 ** (i // 32 % 7 * (-1) ** (i // 32))) for i in itertools.count())
    _, measured = on_a_clock(restless).run(Plan(0, 10))
    assert not measured.warmup.settled
    assert measured.warmup.seconds == pytest.approx(30, abs=0.1)
    assert len(measured.infer_ns) == 10


def test_a_very_slow_model_is_not_warmed_up_for_ever(on_a_clock: Callable[..., Bench]) -> None:
    _, measured = on_a_clock(itertools.repeat(4000 * MS)).run(Plan(0, 2))
    assert measured.warmup == Warmup(9, 32.0, False)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_what_there_is(on_a_clock: Callable[..., Bench], number: signal.Signals) -> None:
    here = on_a_clock(itertools.repeat(100 * MS))
    here.at[100] = lambda: signal.raise_signal(number)
    _, measured = here.run(Plan(60, 1024))
    assert measured.stopped_by == number.name
    assert len(measured.infer_ns) == 100 - measured.warmup.inferences


def test_a_signal_during_the_warm_up(on_a_clock: Callable[..., Bench]) -> None:
    here = on_a_clock(itertools.repeat(MS))
    here.at[20] = lambda: signal.raise_signal(signal.SIGINT)
    _, measured = here.run(Plan(60, 1024))
    assert (measured.stopped_by, len(measured.infer_ns), measured.warmup.settled) == ("SIGINT", 0, False)
    assert here.runner.closed


def test_samples_know_when_they_were_taken(on_a_clock: Callable[..., Bench]) -> None:
    here = on_a_clock(itertools.repeat(1000 * MS))
    for n in range(1, 100):
        here.at[n] = lambda: here.take and here.take(a_sample(temperature_c=50.0))
    _, measured = here.run(Plan(10, 1))
    first = 1 - measured.warmup.inferences  # the cold inference is before everything
    assert [at for at, _ in measured.samples] == [float(first), *(float(s) for s in range(first + 1, 11))]
    assert [s.temperature_c for _, s in measured.samples[:2]] == [40.0, 50.0]


def test_the_log_gets_a_session_of_its_own(on_a_clock: Callable[..., Bench], tmp_path: Path) -> None:
    here = on_a_clock(itertools.repeat(20 * MS))
    here.at[120] = lambda: here.take and here.take(a_sample(temperature_c=77.0))
    for _ in range(2):
        _, measured = here.run(Plan(0, 100), log=tmp_path / "latency.db")
    with sqlite3.connect(tmp_path / "latency.db") as database:
        database.row_factory = sqlite3.Row
        sessions = database.execute("SELECT * FROM session").fetchall()
        assert {(s["source"], s["ended_by"]) for s in sessions} == {("benchmark of test-pattern", "end of benchmark")}
        assert sessions[1]["warmup"] == measured.warmup.inferences
        frames = database.execute("SELECT * FROM frame WHERE session = 2").fetchall()
        assert [f["infer_ns"] for f in frames] == measured.infer_ns.tolist() == [20 * MS] * 100
        assert {f["label"] for f in frames} <= {"red", "green", "blue"}
        temperatures = database.execute("SELECT temperature_c FROM sample WHERE session = 1").fetchall()
        assert [row[0] for row in temperatures] == [77.0]


def test_a_stopped_one_says_so_in_the_log(on_a_clock: Callable[..., Bench], tmp_path: Path) -> None:
    here = on_a_clock(itertools.repeat(20 * MS))
    here.at[120] = lambda: signal.raise_signal(signal.SIGTERM)
    here.run(Plan(60, 1024), log=tmp_path / "latency.db")
    here = on_a_clock(itertools.repeat(20 * MS))
    here.runner.said["fails_at"] = 120
    with pytest.raises(RuntimeError, match="the fake runtime broke"):
        here.run(Plan(60, 1024), log=tmp_path / "latency.db")
    with sqlite3.connect(tmp_path / "latency.db") as database:
        said = [row[0] for row in database.execute("SELECT ended_by FROM session")]
    assert said == ["SIGTERM", "RuntimeError: the fake runtime broke"]


def test_a_network_that_gives_no_numbers_is_not_measured(on_a_clock: Callable[..., Bench]) -> None:
    here = on_a_clock(itertools.repeat(20 * MS))
    here.runner.said["nan_at"] = [7]
    with pytest.raises(EdgeError, match="no numbers for 'pattern#"):
        here.run(Plan(0, 100))
    assert here.runner.closed


def test_pictures_come_from_the_source_in_turn(
    on_a_clock: Callable[..., Bench], pictures: Path, tmp_path: Path
) -> None:
    (pictures / "b" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    here = on_a_clock(itertools.repeat(20 * MS))
    here.run(Plan(0, 6), parse_source(f"folder:{pictures}"), log=tmp_path / "latency.db")
    assert "broken.png" in here.heard[0].reason
    with sqlite3.connect(tmp_path / "latency.db") as database:
        labels = [row[0] for row in database.execute("SELECT label FROM frame ORDER BY sequence")]
    start = ["red", "green", "blue"].index(labels[0])
    assert labels == [["red", "green", "blue"][(start + i) % 3] for i in range(6)]


def test_a_source_without_a_usable_picture(on_a_clock: Callable[..., Bench], tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.jpg").write_bytes(b"no")
    here = on_a_clock(itertools.repeat(MS))
    with pytest.raises(EdgeError, match="gave no picture that can be used"):
        here.run(Plan(0, 6), parse_source(f"folder:{tmp_path / 'bad'}"))
    assert here.runner.closed


def test_a_camera_that_never_comes_is_given_up(
    on_a_clock: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "PICTURES_WITHIN", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    here = on_a_clock(itertools.repeat(MS))
    with pytest.raises(EdgeError, match=r"gave no picture that can be used: none came within 0\.5 s\."):
        here.run(Plan(0, 6), parse_source(f"http://127.0.0.1:{port}/"))
    assert here.runner.closed


def test_a_film_is_read_out_of_its_pace(
    edge_camera: Callable[..., Any], model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bench, "PICTURES_WITHIN", 2.0)
    film, log = tmp_path / "slow.avi", tmp_path / "l.db"
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter_fourcc(*"MJPG"), 0.05, (64, 48))  # a frame in 20 s
    for grey in (0, 80, 160, 240):
        writer.write(np.full((48, 64, 3), grey, np.uint8))
    writer.release()
    ended = edge_camera(
        "benchmark", "-m", model, "-s", f"video:{film}", "--seconds", 0, "--inferences", 8, "--log", log
    )
    assert ended.returncode == 0, ended.stderr
    with sqlite3.connect(log) as database:
        assert database.execute("SELECT COUNT(DISTINCT name) FROM frame").fetchone() == (4,)


def test_a_camera_that_goes_away_is_measured_with_what_came(
    on_a_clock: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "PICTURES_WITHIN", 0.5)
    slow = parse_source("test-pattern", SourceOptions(fps=0.01))
    assert len(bench._pictures(slow, on_a_clock(iter(())), Stop())) == 1


def test_no_error_speaks_of_an_option_that_there_is_not(edge_camera: Callable[..., object], model: Path) -> None:
    for source in ("usb:987", "http://host-" + 70 * "x"):
        ended = edge_camera("benchmark", "-m", model, "--source", source)
        assert ended.returncode != 0
        assert source.partition(":")[2].lstrip("/") in ended.stderr
        assert "--" not in ended.stderr
        assert ended.stderr.endswith(".\n")


def test_big_pictures_do_not_fill_the_memory(on_a_clock: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch) -> None:
    frame = TestPattern().image(0).nbytes
    for room, expected in ((frame - 1, 1), (3 * frame, 3), (10**12, bench.PICTURES)):
        monkeypatch.setattr(bench, "PICTURE_BYTES", room)
        assert len(bench._pictures(TestPattern(), on_a_clock(iter(())), Stop())) == expected


def test_options_that_contradict_each_other() -> None:
    assert plan_of(False, "10m", None, None) == Plan(600.0, 1, True)
    for wrong in ((True, "1m", None, None), (False, "1m", 5.0, None), (False, "1m", None, 5)):
        with pytest.raises(BadInput, match="`sustained`"):
            plan_of(*wrong)
    for span in ("0s", "25h", "99999999999h", "ten minutes"):
        with pytest.raises(BadInput, match="span"):
            plan_of(False, span, None, None)


def test_plans_that_can_be_compared() -> None:
    assert Plan().keeps_the_protocol
    assert Plan(120, 1, True).keeps_the_protocol
    for short in (Plan(seconds=59), Plan(inferences=1023), Plan(119, 1, True)):
        assert not short.keeps_the_protocol


@pytest.mark.long
def test_a_whole_burst(edge_camera: Callable[..., object], model: Path) -> None:
    said = json.loads(edge_camera("benchmark", "-m", model, "--threads", 1, "--json").stdout)
    assert said["n"] >= 1024
    assert 60 <= said["seconds"] < 62
    assert (said["complete"], said["keeps_protocol"]) == (True, True)


def test_a_full_disk_costs_the_log_and_not_the_figures(
    edge_camera: Callable[..., object], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextlib.contextmanager
    def full(path: Path, *, tell: Callable[[Event], None], **_: object) -> Iterator[object]:
        tell(Event(0.0, "log-stopped", f"Cannot write the log '{path}': full."))
        with open_log(path) as log:
            yield log
        raise EdgeError("Its last 9 rows are lost.")

    monkeypatch.setattr(log_sink, "open_log", full)
    ended = edge_camera(
        "benchmark", "-m", model, "--seconds", 0.1, "--inferences", 5, "--log", tmp_path / "x.db", "--json"
    )
    assert json.loads(ended.stdout)["n"] >= 5
    assert ended.returncode == 1
    assert "full.\n" in ended.stderr
    assert ended.stderr.endswith("\nError: Its last 9 rows are lost.\n")


def test_from_the_command_line(edge_camera: Callable[..., object], model: Path, pictures: Path, tmp_path: Path) -> None:
    log = tmp_path / "latency.db"
    short = ("--seconds", 0.2, "--inferences", 50, "--threads", 1)
    ended = edge_camera("benchmark", "-m", model, *short, "-s", f"folder:{pictures}", "--log", log, "--json")
    assert ended.returncode == 0, ended.stderr
    said = json.loads(ended.stdout)
    assert said["n"] >= 50
    assert said["seconds"] >= 0.2
    assert said["n"] == said["stages"]["infer"]["n"] == said["stages"]["total"]["n"]
    assert said["per_second"] == pytest.approx(said["n"] / said["seconds"])
    assert said["session"]["source"] == f"benchmark of folder:{pictures}"
    assert (said["complete"], said["keeps_protocol"], said["kind"]) == (True, False, "burst")
    with sqlite3.connect(log) as database:
        infer = np.array([row[0] for row in database.execute("SELECT infer_ns FROM frame")])
    assert said["stages"]["infer"]["p90"] == np.percentile(infer, 90, method="inverted_cdf") / 1e6
    assert said["variation"] == pytest.approx(infer.std() / infer.mean())
    people = edge_camera("benchmark", "-m", model, *short)
    assert people.returncode == 0
    assert "Burst, one stream, batch 1: " in people.stdout
    assert "Shorter than 1,024 inferences and 60 s" in people.stdout
    assert "Warming up" in people.stderr


def test_sigterm_to_a_process_of_its_own(model: Path) -> None:
    script = Path(__file__).parents[1] / "fake_camera.py"
    command = [sys.executable, str(script), "benchmark", "-m", str(model), "--sustained", "1h", "--json"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "Measuring for 3600 s" in line:
            break
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    said = json.loads(out)
    assert (said["complete"], said["ended_by"]) == (False, "SIGTERM")
    assert said["n"] == said["stages"]["infer"]["n"] > 0
    assert said["state"]["memory_mb"] > 10
