"""What a benchmark says of figures whose answer is known, and how it is shown."""

import json
from collections.abc import Iterable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge_apps import console
from edge_apps.camera.benchmark import show
from edge_apps.camera.benchmark.measure import Measured, Plan, Warmup
from edge_apps.camera.benchmark.report import Report, report, throttling
from edge_apps.camera.inference.session import Session
from edge_apps.runtime.device import this_device
from edge_apps.runtime.sensors import Sample

MS = 1_000_000
RESTLESS = [5.0] + [10.0, 10.0, 14.0] * 4412
"""150 s; nothing ends just when a minute does."""

PER_MINUTE = np.bincount((np.cumsum(RESTLESS) // 60_000).astype(int)).tolist()
BURST, SUSTAINED = Plan(), Plan(600, 1, True)


def a_sample(**known: object) -> Sample:
    unknown = dict.fromkeys(("temperature_c", "clock_mhz", "throttled"))
    return Sample(**{"at": 0.0, "memory_mb": 50.0, "power_mode": "", **unknown, **known})


def measured(durations_ms: Iterable[float], **known: object) -> Measured:
    """Inferences that follow each other without a pause, all of each being the network's time."""
    made, end = Measured(Warmup(100, 1.5, True), **known), 0
    stages = dict.fromkeys(("capture", "decode", "preprocess", "postprocess"), 0)
    for duration in durations_ms:
        ns = round(duration * MS)
        end += ns
        made.add({**stages, "infer": ns, "total": ns, "age": ns}, end)
    return made


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(
        device=msgspec.structs.replace(this_device(tmp_path), board="Raspberry Pi 5 Model B Rev 1.0", cpu="Cortex-A76"),
        runtime="fake 1.0",
        threads=4,
        model="colours",
        file="colours-int8.fake",
        sha256="0" * 64,
        target="tflite",
        precision="int8",
        input="8×10",
        source="benchmark of test-pattern",
        load_ms=12.5,
        first_ms=7.25,
        warmup=100,
    )


def test_figures_of_a_burst(session: Session) -> None:
    times = np.random.default_rng(0).gamma(100, 0.1, 3000).round(6)
    said = report(session, measured(times), BURST)
    infer = said.stages["infer"]
    ordered = np.sort(times)
    assert (said.n, infer.n) == (3000, 3000)
    assert infer.p50 == pytest.approx(ordered[1499], abs=1e-6)  # the 1,500th of 3,000
    assert infer.p90 == pytest.approx(ordered[2699], abs=1e-6)
    assert infer.p99 == pytest.approx(ordered[2969], abs=1e-6)
    assert infer.max == pytest.approx(ordered[-1], abs=1e-6)
    assert infer.p99_is_indicative
    assert infer.mean == pytest.approx(times.mean(), abs=1e-6)
    assert said.variation == pytest.approx(times.std() / times.mean(), rel=1e-5)
    assert said.per_second == pytest.approx(1000 / times.mean(), rel=1e-6)
    assert (said.minutes, said.slowdown) == ((), None)
    assert said.keeps_protocol


@pytest.mark.parametrize(("spread", "unstable"), [(0.09, False), (0.11, True)])
def test_unstable_above_ten_percent(session: Session, spread: float, unstable: bool) -> None:
    said = report(session, measured([10 * (1 - spread), 10 * (1 + spread)] * 50), BURST)
    assert said.variation == pytest.approx(spread)
    assert said.unstable is unstable


def test_minutes_and_the_last_over_the_first(session: Session) -> None:
    """10 ms in the first minute, 12.5 in the second, 20 in the last half."""
    durations = [10.0] * 6000 + [12.5] * 4800 + [20.0] * 1500
    samples = [(float(s) - 5, a_sample(temperature_c=40.0 + s / 10, clock_mhz=2400.0 - s)) for s in range(155)]
    said = report(session, measured(durations, samples=samples), SUSTAINED)
    assert [m.number for m in said.minutes] == [1, 2, 3]
    assert [m.p50 for m in said.minutes] == [10.0, 12.5, 20.0]
    assert [m.seconds for m in said.minutes] == [60, 60, pytest.approx(30)]
    assert sum(m.n for m in said.minutes) == said.n
    # Seconds 90 to 150: half of them with 2,400 inferences of 12.5 ms, half with 1,500 of 20 ms.
    assert said.slowdown is not None
    assert (said.slowdown.seconds, said.slowdown.ratio) == (60, pytest.approx(1.25))
    assert [m.temperature_c for m in said.minutes] == [pytest.approx(t) for t in (46.4, 52.4, 55.4)]
    assert said.minutes[0].clock_mhz == pytest.approx(np.median([2400 - s for s in range(5, 65)]))
    assert said.state.temperature_before_c == pytest.approx(40.4)  # the last one before the start
    assert said.state.temperature_after_c == said.state.temperature_most_c == pytest.approx(55.4)
    assert said.state.clock_least_mhz == 2246.0


def test_what_is_over_the_last_minute_by_a_blink_is_no_minute(session: Session) -> None:
    said = report(session, measured([7.0] * 17143), SUSTAINED)  # 120.001 s
    assert [m.number for m in said.minutes] == [1, 2]
    assert said.slowdown is not None
    assert said.slowdown.ratio == 1.0


def test_short_runs_compare_halves(session: Session) -> None:
    said = report(session, measured([10.0] * 4500 + [15.0] * 3000), SUSTAINED)  # 45 s and 45 s
    assert said.slowdown is not None
    assert (said.slowdown.seconds, said.slowdown.ratio) == (45, pytest.approx(1.5))


@pytest.mark.parametrize("durations", [[], [500.0], [1500.0], [70_000.0, 70_000.0]])
def test_hardly_anything_measured(session: Session, durations: list[float]) -> None:
    said = report(session, measured(durations, stopped_by="SIGINT"), SUSTAINED)
    assert said.n == len(durations)
    assert not said.complete
    assert not said.keeps_protocol
    assert sum(m.n for m in said.minutes) == len(durations)
    assert json.loads(show.as_json(session, said))["ended_by"] == "SIGINT"


def test_a_throttled_run() -> None:
    fine = a_sample(throttled=())
    assert throttling([(0.0, fine), (1.0, fine)]) == ()
    assert throttling([(0.0, fine), (1.0, a_sample(throttled=("under-voltage", "throttled")))]) == (
        "under-voltage",
        "throttled",
    )


def test_what_was_over_before_the_run_is_not_of_the_run() -> None:
    old = a_sample(throttled=("under-voltage (earlier)",))
    assert throttling([(-1.0, old), (1.0, old)]) == ()
    assert throttling([(1.0, old), (2.0, old)]) == ()
    assert throttling([(-1.0, a_sample(throttled=("throttled",))), (1.0, a_sample(throttled=()))]) == ()


def test_what_happened_between_two_samples_is() -> None:
    before, after = a_sample(throttled=("throttled (earlier)",)), ("throttled (earlier)", "under-voltage (earlier)")
    assert throttling([(-1.0, before), (1.0, before), (2.0, a_sample(throttled=after))]) == ("under-voltage",)


def clocks(*values: float | None) -> list[tuple[float, Sample]]:
    return [(float(second), a_sample(clock_mhz=value)) for second, value in enumerate(values)]


def test_a_clock_that_fell() -> None:
    assert throttling(clocks(*[2400] * 10, *[2100] * 5)) == ("clock fell from 2,400 to 2,100 MHz",)
    assert throttling(clocks(*[2400] * 10, *[2200] * 50)) == ()  # by less than a tenth
    assert throttling(clocks(*[2400] * 10, 600, 600, *[2400] * 10)) == ()  # for a moment
    assert throttling(clocks(*[1500] * 10, *[2400] * 10)) == ()  # it rose
    assert throttling(clocks(2400, 2400, 600, 600)) == ()  # too few to say
    assert throttling(clocks(2400, None, 2400, None, 2400, 2400, 2400, *[1000] * 3)) == (
        "clock fell from 2,400 to 1,000 MHz",
    )
    early = [(at - 100, sample) for at, sample in clocks(*[2400] * 50)]
    assert throttling([*early, *clocks(*[1500] * 10)]) == ()  # before the start is not measured


def test_throttling_that_nobody_can_know(session: Session) -> None:
    times = [10.0] * 20
    assert report(session, measured(times), BURST).throttled is None
    assert report(session, measured(times, samples=[(1.0, a_sample())]), BURST).throttled is None
    assert report(session, measured(times, samples=clocks(1000)), BURST).throttled is False
    assert report(session, measured(times, samples=[(1.0, a_sample(throttled=()))]), BURST).throttled is False


def shown(session: Session, said: Report, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    console.print_parts(show.as_parts(session, said))
    return capsys.readouterr().out


def test_people_read_it(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("throttled",)
    samples = [
        (float(s), a_sample(temperature_c=60 + s / 10, clock_mhz=2400.0, throttled=words if s > 70 else ()))
        for s in range(150)
    ]
    samples[-1] = (149.0, a_sample(temperature_c=61.0, clock_mhz=2400.0, throttled=(), power_mode="15W"))
    text = shown(session, report(session, measured(RESTLESS, samples=samples), SUSTAINED), capsys)
    assert "Raspberry Pi 5 Model B Rev 1.0, Cortex-A76" in text
    assert "Cold: loaded in 12.5 ms, first inference 7.25 ms" in text
    assert "Warm-up: 100 inferences in 1.5 s, settled" in text
    assert "Sustained, one stream, batch 1: 13,237 inferences in 150.0 s, 88.2 a second" in text
    assert "Last 60 s ÷ first 60 s: 1.000 (p50 of infer)" in text
    assert "60.0 → 61.0 °C (at most 74.8), 2,400 → 2,400 MHz (at least 2,400), 50 MB, power mode 15W" in text
    assert "THROTTLED: throttled." in text
    assert "UNSTABLE: the coefficient of variation is 17 %, above 10 %." in text
    rows = [line.split() for line in text.splitlines() if line.strip().startswith(("1 ", "2 ", "3 "))]
    n = [f"{count:,}" for count in PER_MINUTE]
    assert rows == [
        ["1", n[0], "10.00", "14.00", "65.9", "2,400"],
        ["2", n[1], "10.00", "14.00", "71.9", "2,400", "throttled"],
        ["3", "(30", "s)", n[2], "10.00", "14.00", "74.8", "2,400", "throttled"],
    ]


def test_people_are_told_what_is_not_so(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    restless = measured([10.0] * 20, stopped_by="SIGTERM")
    restless.warmup = Warmup(50, 30.0, False)
    text = shown(session, report(session, restless, BURST), capsys)
    assert "did not settle" in text
    assert "INCOMPLETE: stopped by SIGTERM." in text
    assert "Throttled: not known" in text
    assert "UNSTABLE" not in text
    nothing = shown(session, report(session, measured([], stopped_by="SIGINT"), BURST), capsys)
    assert nothing.rstrip().endswith("Stopped by SIGINT before the first inference was measured.")


def test_programs_read_the_same(session: Session) -> None:
    said = report(session, measured(RESTLESS, samples=clocks(*[2400] * 10, *[1200] * 10)), SUSTAINED)
    document = json.loads(show.as_json(session, said))
    assert document["throttled"] is document["unstable"] is True
    assert document["throttled_by"] == ["clock fell from 2,400 to 1,200 MHz"]
    assert document["stages"]["infer"]["p90"] == 14.0
    assert document["stages"]["infer"]["p99_is_indicative"] is False
    assert [m["n"] for m in document["minutes"]] == PER_MINUTE
    assert document["session"]["fingerprint"] == session.device.fingerprint
    assert document["slowdown"] == {"ratio": 1.0, "seconds": 60}
