"""Who am I: board, processor, memory and system, as latency figures need them beside them.

No host name, serial number or address. Two boards of one kind are therefore the same here; ``identity`` tells them
apart.
"""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from pathlib import Path

import cv2
import msgspec
import numpy as np

from edge_apps.runtime import sysfs

ARM_CORES = {
    0xD03: "Cortex-A53",  # Raspberry Pi 3, Zero 2
    0xD07: "Cortex-A57",  # Jetson Nano, TX2
    0xD08: "Cortex-A72",  # Raspberry Pi 4
    0xD0B: "Cortex-A76",  # Raspberry Pi 5
    0xD42: "Cortex-A78AE",  # Jetson Orin
    0xD83: "Neoverse-V3AE",  # Jetson Thor
}
"""What 64-bit Linux shows instead of a name (``CPU part`` of implementer 0x41), for the boards meant here."""


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """What a machine is. ``memory_mb`` is 10^6 bytes; an empty text means that the machine does not say."""

    board: str
    soc: str
    cpu: str
    arch: str
    cores: int
    usable_cores: int
    memory_mb: int
    os: str
    kernel: str
    python: str
    opencv: str
    numpy: str

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits of the hardware alone: the same after an upgrade of the system.

        Memory counts in whole GiB, because what the kernel reserves of it varies.
        """
        memory = round(self.memory_mb * 1e6 / 2**30)
        hardware = "\n".join([self.board, self.soc, self.cpu, self.arch, str(self.cores), str(memory)])
        return hashlib.sha256(hardware.encode()).hexdigest()[:12]

    @property
    def hardware(self) -> str:
        """Return the shortest name of the hardware: the board, or the processor where that is unknown."""
        return self.board or self.cpu or self.soc or self.arch

    def __str__(self) -> str:
        """The line for people: ``Raspberry Pi 4 Model B Rev 1.4, Cortex-A72, 4 cores, 4.0 GB``."""
        names = [self.board or self.soc, self.cpu or self.arch]
        cores = f"{self.cores} core{'s' if self.cores != 1 else ''}"
        return ", ".join([*(name for name in names if name), cores, f"{self.memory_mb / 1000:.1f} GB"])


def this_device(root: Path = Path("/")) -> Device:
    """Describe the machine that runs this; ``root`` holds its ``proc`` and ``sys``."""
    return Device(
        board=_board(root),
        soc=_soc(root),
        cpu=_cpu(root),
        arch=platform.machine(),
        cores=_cores(root),
        usable_cores=usable_cores(),
        memory_mb=_memory_mb(),
        os=_os_name(),
        kernel=platform.release(),
        python=platform.python_version(),
        opencv=cv2.__version__,
        numpy=np.__version__,
    )


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cores(root: Path) -> int:
    """Cores that the machine has, also those that a power mode switched off: ``0-5``, or ``0-3,8-11``."""
    ranges = [part.partition("-") for part in sysfs.text(root / "sys/devices/system/cpu/present").split(",")]
    try:
        return sum(int(last or first) - int(first) + 1 for first, _, last in ranges)
    except ValueError:  # no Linux
        return os.cpu_count() or 1


def governor(root: Path = Path("/")) -> str:
    """Who sets the processor's clock: the kernel's ``ondemand``, ``performance``…; all of them, if cores differ.

    "" where the machine has no such choice, or does not say. It can be changed at any time, so it is no part of what a
    machine is.
    """
    files = sorted(root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor"))
    return "+".join(sorted({name for file in files if (name := sysfs.text(file))}))


def _board(root: Path) -> str:
    model = sysfs.text(root / "proc/device-tree/model")
    if model:
        return model
    maker, product = (sysfs.text(root / "sys/class/dmi/id" / name) for name in ("sys_vendor", "product_name"))
    return f"{maker} {product}".strip() or _sysctl("hw.model")


def _soc(root: Path) -> str:
    """The most general name in the device tree's list, as ``brcm,bcm2711``."""
    names = [name for name in sysfs.text(root / "proc/device-tree/compatible").split("\0") if name]
    return names[-1] if names else ""


def _cpu(root: Path) -> str:
    lines = sysfs.text(root / "proc/cpuinfo").splitlines()
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    if "model name" in fields:
        return fields["model name"]
    part = fields.get("CPU part", "")
    if part:
        # On a chip with two kinds of core the last one listed, the fast one on the boards that have both, counts.
        known = ARM_CORES.get(int(part, 16)) if fields.get("CPU implementer") == "0x41" else None
        return known or f"Arm {fields.get('CPU implementer', '')} {part}"
    return _sysctl("machdep.cpu.brand_string")


def _memory_mb() -> int:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e6)


def _os_name() -> str:
    if platform.system() == "Darwin":
        return f"macOS {platform.mac_ver()[0]}"
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return f"{platform.system()} {platform.release()}"


def _sysctl(name: str) -> str:
    """macOS keeps there what Linux keeps in files."""
    if platform.system() != "Darwin":
        return ""
    answer = subprocess.run(["/usr/sbin/sysctl", "-n", name], capture_output=True, text=True, check=False)
    return answer.stdout.strip()
