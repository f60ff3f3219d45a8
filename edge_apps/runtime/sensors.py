"""What the machine says of its state while it computes: temperature, clock, throttling, memory, power mode.

Read from files wherever there is one, by a thread of its own once a second: a sensor never holds up a frame. What a
machine does not say is None, never a guess.
"""

from __future__ import annotations

import os
import re
import resource
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Protocol, TypeVar

import msgspec

from edge_apps.runtime import sysfs
from edge_apps.runtime.throttling import Throttling
from edge_apps.runtime.tool import Tool

T = TypeVar("T")

CPU_ZONES = (re.compile("cpu", re.I), re.compile("^x86_pkg_temp$"), re.compile("^(soc|tj|package)", re.I))
"""Thermal zones by their type, the best kind first; of one kind the hottest counts. ``cpu-thermal`` is a Raspberry
Pi's and a Jetson's, ``CPU-therm`` an older Jetson's. Left out: ``acpitz``, often a constant, and what is of a fan."""

CPU_CHIPS = ("coretemp", "k10temp", "zenpower")
"""Where no zone is the processor's (AMD): the name of the chip in ``hwmon``."""

POSSIBLE = (-40.0, 150.0)
"""Degrees Celsius that a working sensor can show; a zone that is switched off shows anything."""

MODE_EVERY = 60.0
"""Seconds between two questions to ``nvpmodel``; a mode seldom changes, and its files answer where they are."""


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One look at all sensors. None, or an empty ``power_mode``: this machine does not say.

    ``clock_mhz`` is that of the fastest core, as the kernel set it: firmware that holds a Raspberry Pi back shows in
    ``throttled`` alone. ``throttled`` is () where nothing holds the machine back, else words such as "under-voltage"
    or "frequency capped", with " (earlier)" for what is over. ``memory_mb`` is what this process holds, in 10^6 bytes.
    """

    at: float  # wall clock, seconds since 1970 UTC
    temperature_c: float | None
    clock_mhz: float | None
    throttled: tuple[str, ...] | None
    memory_mb: float
    power_mode: str


class Sensors:
    """The sensors of the machine whose ``proc``, ``sys``, ``etc`` and ``var`` are below ``root``; found once."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._temperatures = _temperature_files(root)
        self._clocks = _clock_files(root)
        self._throttling = _or_none(lambda: Throttling(root)) or (lambda: None)
        self._power_mode = PowerMode(root)
        self._memory = root / "proc/self/statm"

    def sample(self) -> Sample:
        """Ask every sensor; one that fails says None. A fraction of a millisecond where files answer."""
        temperature = _highest(self._temperatures, 1e-3, *POSSIBLE)
        clock = _highest(self._clocks, 1e-3, 1.0, 1e5)
        return Sample(
            at=time.time(),
            temperature_c=temperature,
            clock_mhz=clock,
            throttled=_or_none(self._throttling),
            memory_mb=_or_none(lambda: _resident_mb(self._memory)) or _peak_mb(),
            power_mode=_or_none(self._power_mode.name) or "",
        )


class SamplesState(Protocol):
    """What a ``Sampler`` asks; ``Sensors``, or a test's own."""

    def sample(self) -> Sample:
        """The state at this moment."""


class Sampler:
    """A thread that gives ``take`` a sample at once and then ``every`` so many seconds, inside a ``with`` block.

    The beat is kept by the monotonic clock; beats missed behind a slow sensor are left out, not made up for. ``take``
    runs in that thread and must not wait long. Of an exception, of a sensor or of ``take``, ``failed`` hears once,
    and the thread goes on. Nothing is taken after the block.
    """

    def __init__(
        self,
        sensors: SamplesState,
        take: Callable[[Sample], None],
        every: float = 1.0,
        failed: Callable[[Exception], None] = lambda _: None,
    ) -> None:
        self._sensors, self._take, self._every, self._failed = sensors, take, every, failed
        self._has_failed = False
        self._stop = threading.Event()
        self._taking = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="sensors", daemon=True)

    def __enter__(self) -> Sampler:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Begin; once."""
        self._thread.start()

    def stop(self) -> None:
        """End, without waiting for a sensor that hangs."""
        with self._taking:
            self._stop.set()
        self._thread.join(timeout=min(self._every, 0.2))

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.is_set():
            try:
                sample = self._sensors.sample()
                with self._taking:
                    if not self._stop.is_set():
                        self._take(sample)
            except Exception as error:
                if not self._has_failed:
                    self._has_failed = True
                    self._failed(error)
            due = max(due + self._every, time.monotonic())
            self._stop.wait(due - time.monotonic())


class PowerMode:
    """The mode that a Jetson's ``nvpmodel`` set, by name: ``15W``, ``MAXN``; "" on everything else."""

    def __init__(self, root: Path) -> None:
        self._status = root / "var/lib/nvpmodel/status"
        self._modes = root / "etc/nvpmodel.conf"
        self._tool = Tool("nvpmodel", "-q", every=MODE_EVERY)
        self._known: tuple[str, str] = ("", "")

    def name(self) -> str:
        """From its two files, else from the program."""
        return self._from_files() or self._from_tool()

    def _from_files(self) -> str:
        try:
            said = re.search(r"pmode:(\d+)", self._status.read_text())
            number = said.group(1) if said else ""
            if number != self._known[0]:
                self._known = (number, _mode_name(self._modes.read_text(), int(number)) if number else "")
        except OSError:
            return ""
        return self._known[1]

    def _from_tool(self) -> str:
        said = re.search(r"^NV Power Mode:\s*(\S+)", self._tool.ask() or "", re.M)
        return said.group(1) if said else ""


def _mode_name(modes: str, number: int) -> str:
    """``< POWER_MODEL ID=1 NAME=7W >`` is how the configuration names a mode."""
    found = re.search(rf"<\s*POWER_MODEL\s+ID={number}\s+NAME=(\S+)\s*>", modes)
    return found.group(1) if found else ""


def _temperature_files(root: Path) -> list[Path]:
    zones = {
        path.with_name("temp"): sysfs.text(path) for path in sorted(root.glob("sys/class/thermal/thermal_zone*/type"))
    }
    for kind in CPU_ZONES:
        found = [path for path, name in zones.items() if kind.search(name)]
        if found:
            return found
    chips = sorted(root.glob("sys/class/hwmon/hwmon*/name"))
    return [chip.with_name("temp1_input") for chip in chips if sysfs.text(chip) in CPU_CHIPS]


def _clock_files(root: Path) -> list[Path]:
    """One for each group of cores that share a clock: on a Raspberry Pi four names lead to one file."""
    found = root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq")
    return sorted({path.resolve() for path in found})


def _highest(files: list[Path], unit: float, least: float, most: float) -> float | None:
    values = (_or_none(lambda path=path: int(path.read_text()) * unit) for path in files)  # type: ignore[misc]
    return max((value for value in values if value is not None and least <= value <= most), default=None)


def _resident_mb(statm: Path) -> float:
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def _peak_mb() -> float:
    """Where no file tells (macOS): the most the process ever held, in bytes there and in KiB elsewhere."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6


def _or_none(sensor: Callable[[], T]) -> T | None:
    """One broken sensor must not silence the others."""
    try:
        return sensor()
    except Exception:
        return None
