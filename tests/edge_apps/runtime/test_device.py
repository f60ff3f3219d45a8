"""Who am I: on boards that are described by files, and here."""

import getpass
import hashlib
import os
import socket
from pathlib import Path

import msgspec
import pytest

from edge_apps.runtime.device import governor, this_device, usable_cores

PI_4_CPUINFO = """\
processor\t: 0
BogoMIPS\t: 108.00
CPU implementer\t: 0x41
CPU architecture: 8
CPU part\t: 0xd08

Revision\t: c03114
Serial\t\t: 10000000abcdef01
Model\t\t: Raspberry Pi 4 Model B Rev 1.4
"""


@pytest.fixture
def pi(tmp_path: Path) -> Path:
    tree = tmp_path / "proc" / "device-tree"
    tree.mkdir(parents=True)
    (tree / "model").write_bytes(b"Raspberry Pi 4 Model B Rev 1.4\0")
    (tree / "compatible").write_bytes(b"raspberrypi,4-model-b\0brcm,bcm2711\0")
    (tmp_path / "proc" / "cpuinfo").write_text(PI_4_CPUINFO)
    return tmp_path


def test_a_raspberry_pi(pi: Path) -> None:
    device = this_device(pi)
    assert device.board == "Raspberry Pi 4 Model B Rev 1.4"
    assert device.soc == "brcm,bcm2711"
    assert device.cpu == "Cortex-A72"
    assert str(device).startswith("Raspberry Pi 4 Model B Rev 1.4, Cortex-A72, ")


@pytest.mark.parametrize(
    ("part", "cpu", "model", "compatible", "soc"),
    [
        (
            "0xd0b",
            "Cortex-A76",
            "Raspberry Pi 5 Model B Rev 1.0",
            "raspberrypi,5-model-b\0brcm,bcm2712",
            "brcm,bcm2712",
        ),
        (
            "0xd42",
            "Cortex-A78AE",
            "NVIDIA Jetson Orin Nano Developer Kit",
            "nvidia,p3768-0000+p3767-0005\0nvidia,p3767-0005\0nvidia,tegra234",
            "nvidia,tegra234",
        ),
    ],
)
def test_other_boards(pi: Path, part: str, cpu: str, model: str, compatible: str, soc: str) -> None:
    (pi / "proc/device-tree/model").write_text(f"{model}\0")
    (pi / "proc/device-tree/compatible").write_text(f"{compatible}\0")
    (pi / "proc/cpuinfo").write_text(PI_4_CPUINFO.replace("0xd08", part))
    device = this_device(pi)
    assert (device.board, device.cpu, device.soc) == (model, cpu, soc)


def test_the_governor_of_all_cores(tmp_path: Path) -> None:
    assert governor(tmp_path) == ""
    for core, name in enumerate(["schedutil", "schedutil", "performance", "schedutil"]):
        file = tmp_path / f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor"
        file.parent.mkdir(parents=True)
        file.write_text(f"{name}\n")
        if core == 1:
            assert governor(tmp_path) == "schedutil"
    assert governor(tmp_path) == "performance+schedutil"


@pytest.mark.parametrize(("present", "cores"), [("0", 1), ("0-5", 6), ("0-3,8-11", 8), ("0,2-3", 3)])
def test_cores_that_a_power_mode_switched_off_count(tmp_path: Path, present: str, cores: int) -> None:
    file = tmp_path / "sys/devices/system/cpu/present"
    file.parent.mkdir(parents=True)
    file.write_text(f"{present}\n")
    assert this_device(tmp_path).cores == cores


def test_cores_where_the_machine_does_not_list_them(tmp_path: Path) -> None:
    assert this_device(tmp_path).cores == os.cpu_count()


def test_the_fingerprint_never_changes(pi: Path) -> None:
    """Logs of years are compared by it: sha256 of these six lines."""
    device = msgspec.structs.replace(this_device(pi), arch="aarch64", cores=4, memory_mb=3980)
    lines = "Raspberry Pi 4 Model B Rev 1.4\nbrcm,bcm2711\nCortex-A72\naarch64\n4\n4"
    assert device.fingerprint == hashlib.sha256(lines.encode()).hexdigest()[:12] == "202590ad5739"


def test_a_pc(tmp_path: Path) -> None:
    dmi = tmp_path / "sys" / "class" / "dmi" / "id"
    dmi.mkdir(parents=True)
    (dmi / "sys_vendor").write_text("LENOVO\n")
    (dmi / "product_name").write_text("20XW\n")
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Some CPU @ 3 GHz\nflags\t\t: a b\n")
    device = this_device(tmp_path)
    assert (device.board, device.soc, device.cpu) == ("LENOVO 20XW", "", "Some CPU @ 3 GHz")


def test_an_unknown_arm_core_is_shown_by_its_numbers(pi: Path) -> None:
    cpuinfo = pi / "proc" / "cpuinfo"
    cpuinfo.write_text(cpuinfo.read_text().replace("0xd08", "0xfff"))
    assert this_device(pi).cpu == "Arm 0x41 0xfff"


def test_a_machine_that_says_nothing(tmp_path: Path) -> None:
    device = this_device(tmp_path)
    assert (device.board, device.soc, device.cpu) == ("", "", "")
    assert device.arch in str(device)
    assert len(device.fingerprint) == 12


def test_the_fingerprint_is_of_the_hardware_alone(pi: Path) -> None:
    device = this_device(pi)
    upgraded = msgspec.structs.replace(device, os="Debian 13", kernel="6.12", python="3.13.5", opencv="5.1", numpy="3")
    assert upgraded.fingerprint == device.fingerprint
    assert msgspec.structs.replace(device, memory_mb=device.memory_mb + 30).fingerprint == device.fingerprint
    for change in ({"board": "another"}, {"cpu": "another"}, {"cores": 99}, {"memory_mb": device.memory_mb * 2}):
        assert msgspec.structs.replace(device, **change).fingerprint != device.fingerprint


def test_nothing_names_the_owner(pi: Path) -> None:
    for root in (pi, Path("/")):
        said = msgspec.json.encode(this_device(root)).decode()
        assert "abcdef01" not in said
        for name in (socket.gethostname(), getpass.getuser()):
            assert f'"{name}"' not in said


def test_this_machine() -> None:
    device = this_device()
    assert 1 <= usable_cores() == device.usable_cores <= device.cores
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        kibibytes = int(meminfo.read_text().split()[1])
        assert device.memory_mb == pytest.approx(kibibytes * 1024 / 1e6, rel=0.01)
    assert this_device() == device
    assert msgspec.json.decode(msgspec.json.encode(device), type=type(device)) == device
