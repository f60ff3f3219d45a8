"""Is the machine held back, and by what: a Raspberry Pi's firmware, kernel counters, kernel cooling.

Each witness answers with words, with none where all is well, or None where it has nothing to say. ``EARLIER`` marks
what was and is over: since the machine started on a Raspberry Pi, whose firmware keeps it, elsewhere since this program
did.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edge_apps.runtime import sysfs
from edge_apps.runtime.tool import Tool

EARLIER = " (earlier)"

FIRMWARE_BITS = ("under-voltage", "frequency capped", "throttled", "soft temperature limit")
"""Bits 0 to 3 of a Raspberry Pi's ``get_throttled``: now. The same 16 bits higher: since it started.
(Raspberry Pi documentation, "vcgencmd: get_throttled".)"""

FIRMWARE_FILE = "sys/devices/platform/soc*/soc*:firmware/get_throttled"
"""``soc/soc:firmware`` up to the Raspberry Pi 4, ``soc@107c000000/soc@107c000000:firmware`` on the 5."""

TEGRA_EVENTS = {"oc1": "under-voltage", "oc2": "over-current (average)", "oc3": "over-current"}
"""What a Jetson Orin's ``soctherm_oc`` counts. (Jetson Linux Developer Guide, "Over-current throttling".)"""

COOLING = {"Processor": "frequency capped", "cpufreq-": "frequency capped", "thermal-cpufreq-": "frequency capped"}
"""How the type of a cooling device begins that slows the processor; a Jetson's ``*-throttle-alert`` are known by
their end. Fans do not count."""

Witness = Callable[[], "tuple[str, ...] | None"]


class Throttling:
    """All witnesses of one machine, whose ``proc`` and ``sys`` are below ``root``."""

    def __init__(self, root: Path) -> None:
        self._witnesses: tuple[Witness, ...] = (Firmware(root), Counters(_counters(root)), Cooling(root))

    def __call__(self) -> tuple[str, ...] | None:
        """Every word once; None where no witness has anything to say."""
        answers = [answer for witness in self._witnesses if (answer := _heard(witness)) is not None]
        return tuple(dict.fromkeys(word for answer in answers for word in answer)) if answers else None


class Firmware:
    """A Raspberry Pi's power and temperature guard; ``vcgencmd`` where the kernel has no file for it."""

    def __init__(self, root: Path) -> None:
        self._file = next(root.glob(FIRMWARE_FILE), None)
        self._tool = Tool("vcgencmd", "get_throttled", every=0)

    def __call__(self) -> tuple[str, ...] | None:
        """The set bits in words."""
        text = self._file.read_text() if self._file else self._tool.ask()
        if text is None:
            return None
        mask = int(text.strip().removeprefix("throttled="), 16)
        return _words(
            [word for bit, word in enumerate(FIRMWARE_BITS) if mask >> bit & 1],
            [word for bit, word in enumerate(FIRMWARE_BITS) if mask >> (bit + 16) & 1],
        )


class Counters:
    """Files that count events: one that rose since the last look means now, since the first look earlier."""

    def __init__(self, words: dict[Path, str]) -> None:
        self._words = words
        self._first = _counts(words)
        self._last = self._first

    def __call__(self) -> tuple[str, ...] | None:
        """What rose."""
        if not self._first:
            return None
        counts = _counts(self._words)
        now = [self._words[path] for path, count in counts.items() if count > self._last.get(path, count)]
        ever = [self._words[path] for path, count in counts.items() if count > self._first.get(path, count)]
        self._last = {**self._last, **counts}
        return _words(now, ever)


class Cooling:
    """Cooling devices of the kernel that slow the processor down; above 0 they do."""

    def __init__(self, root: Path) -> None:
        self._words = {}
        for folder in sorted(root.glob("sys/class/thermal/cooling_device*")):
            kind = sysfs.text(folder / "type")
            word = next((word for start, word in COOLING.items() if kind.startswith(start)), None)
            if kind.endswith("-throttle-alert"):
                word = "throttled"
            if word:
                self._words[folder / "cur_state"] = word

    def __call__(self) -> tuple[str, ...] | None:
        """What they do at this moment; they keep no memory of earlier."""
        states = _counts(self._words)
        return _words([self._words[path] for path, state in states.items() if state > 0], []) if states else None


def _words(now: list[str], ever: list[str]) -> tuple[str, ...]:
    """Each word once, and what is not now any more marked as earlier."""
    return tuple(dict.fromkeys([*now, *(word + EARLIER for word in ever if word not in now)]))


def _heard(witness: Witness) -> tuple[str, ...] | None:
    """A witness that talks nonsense must not silence the others."""
    try:
        return witness()
    except (OSError, ValueError):
        return None


def _counters(root: Path) -> dict[Path, str]:
    """x86: each core's and the package's own thermal throttling. Jetson Orin: voltage and current events."""
    cores = root.glob("sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/*_throttle_count")
    found = dict.fromkeys(sorted(cores), "throttled")
    for name in root.glob("sys/class/hwmon/hwmon*/name"):
        if sysfs.text(name) == "soctherm_oc":
            found.update((name.with_name(f"{event}_event_cnt"), word) for event, word in TEGRA_EVENTS.items())
    return found


def _counts(paths: dict[Path, str]) -> dict[Path, int]:
    counts = {}
    for path in paths:
        try:
            counts[path] = int(path.read_text())
        except (OSError, ValueError):
            continue  # this one does not say, this time
    return counts
