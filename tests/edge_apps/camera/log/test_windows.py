"""Windows: which frames they hold, and their figures against numpy's and sorting by hand."""

import math
import random
from pathlib import Path

import numpy as np

from edge_apps.camera.log import open_log
from edge_apps.camera.log.schema import WINDOW_NS
from edge_apps.camera.log.windows import Windows
from edge_apps.runtime.histogram import RELATIVE_ERROR, Histogram
from edge_apps.runtime.latency import STAGES


def frames(offsets: list[float], infer: list[int]) -> list:
    return [(int(s * 1e9), 1000 + s, (1, 2, 3, ns, 5, ns + 11, ns + 12)) for s, ns in zip(offsets, infer, strict=True)]


def test_a_window_is_over_when_a_later_one_begins() -> None:
    windows = Windows()
    assert windows.add(frames([0.0, 9.999999], [7, 9])) == []
    rows = windows.add(frames([10.0], [8]))
    assert [(row[0], row[1], row[5]) for row in rows] == [(0, stage, 2) for stage in STAGES]
    assert windows.until(19 * 10**9) == []
    (capture, *_) = windows.until(20 * 10**9)
    assert capture[:6] == (1, "capture", 1010.0, 10 * 10**9, 10 * 10**9, 1)
    assert windows.until(90 * 10**9) == [], "no frame, no row"
    assert windows.current == 9
    assert windows.close() == []


def test_figures_are_those_of_the_samples() -> None:
    chance = random.Random(3)
    infer = [chance.randrange(10**6, 10**8) for _ in range(997)]
    windows = Windows()
    windows.add(frames([n / 100 for n in range(997)], infer))
    row = next(row for row in windows.close() if row[1] == "infer")
    number, stage, at, first, last, n, p50, p90, p95, p99, longest, blob = row
    assert (number, stage, at, first, last, n) == (0, "infer", 1000.0, 0, 9_960_000_000, 997)
    ordered = sorted(infer)
    for percent, value in ((50, p50), (90, p90), (95, p95), (99, p99)):
        assert value == ordered[math.ceil(percent / 100 * 997) - 1]
    assert longest == max(infer)
    histogram = Histogram.from_bytes(blob)
    assert (histogram.n, histogram.sum, histogram.max) == (997, sum(infer), max(infer))
    exact = np.percentile(infer, 99, method="inverted_cdf")
    assert abs(histogram.quantile(99) - exact) <= exact * RELATIVE_ERROR


def test_a_running_session_writes_each_window_when_it_is_over(logs, tmp_path: Path, clock, quick) -> None:  # noqa: ARG001
    path = tmp_path / "latency.db"
    with open_log(path) as log:
        log.begin(logs.session())
        for sequence in range(30):
            log.add(logs.frame(sequence, infer=1000 + sequence))
        logs.until(lambda: not log._inbox and not log.state.waiting)
        assert logs.rows(path, "SELECT count(*) FROM window") == [(0,)]
        clock.pass_(WINDOW_NS / 1e9)
        logs.until(lambda: logs.rows(path, "SELECT count(*) FROM window") == [(len(STAGES),)])  # without another frame
        log.add(logs.frame(30))
        log.end("frames")
    assert logs.rows(path, "SELECT number, n, p50_ns, max_ns FROM window WHERE stage = 'infer'") == [
        (0, 30, 1014, 1029),
        (1, 1, 3, 3),
    ]
    ((offset, number),) = logs.rows(
        path, "SELECT offset_ns, number FROM frame JOIN window WHERE sequence = 30 AND number = 1 LIMIT 1"
    )
    assert offset // WINDOW_NS == number


def test_a_session_that_follows_has_windows_of_its_own(logs, tmp_path: Path) -> None:
    path = tmp_path / "latency.db"
    with open_log(path) as log:
        for _ in range(3):
            log.begin(logs.session())
            log.add(logs.frame(0))
            log.end("another model")
    assert logs.rows(path, "SELECT session, number, n FROM window WHERE stage = 'age'") == [
        (n, 0, 1) for n in (1, 2, 3)
    ]
    assert logs.rows(path, "SELECT ended_by FROM session") == [("another model",)] * 3
