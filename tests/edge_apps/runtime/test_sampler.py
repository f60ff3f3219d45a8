"""The sampler: a sample in its beat, whatever the sensors do."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

from edge_apps.runtime.sensors import Sample, Sampler

PI_4_FIRMWARE = "sys/devices/platform/soc/soc:firmware/get_throttled"
PI_5_FIRMWARE = "sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled"

Tree = Callable[[dict[str, str]], Path]


class Scripted:
    """Sensors that do what the next step says."""

    def __init__(self, *steps: object) -> None:
        self.steps = list(steps)
        self.calls = 0

    def sample(self) -> Sample:
        self.calls += 1
        step = self.steps.pop(0) if self.steps else None
        if isinstance(step, Exception):
            raise step
        if isinstance(step, threading.Event):
            step.wait(30)
        return Sample(at=0, temperature_c=None, clock_mhz=None, throttled=None, memory_mb=self.calls, power_mode="")


def test_a_sampler_takes_at_once_and_then_in_its_beat() -> None:
    taken: list[float] = []
    enough = threading.Event()

    def take(sample: Sample) -> None:
        taken.append(sample.memory_mb)
        if len(taken) == 4:
            enough.set()

    start = time.monotonic()
    faults: list[Exception] = []
    with Sampler(Scripted(), take, every=0.03, failed=faults.append):
        assert enough.wait(10)
    assert time.monotonic() - start >= 3 * 0.03
    assert taken[:4] == [1, 2, 3, 4]
    assert not faults
    after = len(taken)
    time.sleep(0.1)
    assert len(taken) == after


def test_a_sampler_outlives_what_it_calls() -> None:
    enough = threading.Event()
    first = RuntimeError("no bus")

    def take(sample: Sample) -> None:
        if sample.memory_mb == 3:
            raise OSError("the second, not told")
        if sample.memory_mb == 5:
            enough.set()

    faults: list[Exception] = []
    with Sampler(Scripted(None, first), take, every=0.005, failed=faults.append):
        assert enough.wait(10)
    assert faults == [first]


def test_beats_missed_behind_a_slow_sensor_are_left_out() -> None:
    slow = threading.Event()
    taken: list[float] = []
    with Sampler(Scripted(slow), lambda sample: taken.append(sample.at), every=0.05):
        time.sleep(0.5)
        assert not taken
        slow.set()
        time.sleep(0.12)
    assert 1 <= len(taken) <= 5  # not the ten that were due


def test_the_end_does_not_wait_for_a_sensor_that_hangs() -> None:
    hangs = threading.Event()
    taken: list[Sample] = []
    start = time.monotonic()
    with Sampler(Scripted(hangs), taken.append, every=0.05):
        time.sleep(0.05)
    assert time.monotonic() - start < 20  # the sensor would have taken 30
    hangs.set()
    time.sleep(0.05)
    assert taken == []
