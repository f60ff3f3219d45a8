"""Sensors of boards that are described by files, of programs that hang, and of the machine that runs the tests."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_apps.runtime import tool
from edge_apps.runtime.sensors import Sensors
from edge_apps.runtime.throttling import EARLIER

PI_4_FIRMWARE = "sys/devices/platform/soc/soc:firmware/get_throttled"
PI_5_FIRMWARE = "sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled"

Tree = Callable[[dict[str, str]], Path]


@pytest.fixture(autouse=True)
def no_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that alone is on PATH: these tests ask no program of the machine they run on."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    def make(files: dict[str, str]) -> Path:
        for name, text in files.items():
            path = tmp_path / "root" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n")
        return tmp_path / "root"

    return make


def program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")
    path.chmod(0o755)


def zone(number: int, kind: str, millidegrees: str) -> dict[str, str]:
    folder = f"sys/class/thermal/thermal_zone{number}"
    return {f"{folder}/type": kind, f"{folder}/temp": millidegrees}


def cooling(number: int, kind: str, state: int) -> dict[str, str]:
    folder = f"sys/class/thermal/cooling_device{number}"
    return {f"{folder}/type": kind, f"{folder}/cur_state": str(state)}


def clock(core: int, kilohertz: int) -> dict[str, str]:
    return {f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq": str(kilohertz)}


def test_a_raspberry_pi_4(tree: Tree) -> None:
    root = tree(
        {
            **zone(0, "cpu-thermal", "61835"),
            **clock(0, 1_500_000),
            PI_4_FIRMWARE: "0",
            "proc/self/statm": "50000 12000 4000 1 0 9000 0",
        }
    )
    before = time.time()
    sample = Sensors(root).sample()
    assert before <= sample.at <= time.time()
    assert sample.temperature_c == pytest.approx(61.835)
    assert sample.clock_mhz == pytest.approx(1500.0)
    assert sample.throttled == ()
    assert sample.memory_mb == pytest.approx(12000 * os.sysconf("SC_PAGE_SIZE") / 1e6)
    assert sample.power_mode == ""


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        ("0", ()),
        ("1", ("under-voltage",)),
        ("2", ("frequency capped",)),
        ("4", ("throttled",)),
        ("8", ("soft temperature limit",)),
        ("f", ("under-voltage", "frequency capped", "throttled", "soft temperature limit")),
        ("10000", ("under-voltage (earlier)",)),
        ("20000", ("frequency capped (earlier)",)),
        ("40000", ("throttled (earlier)",)),
        ("80000", ("soft temperature limit (earlier)",)),
        ("50005", ("under-voltage", "throttled")),  # what is now is not said again as earlier
        ("f0007", ("under-voltage", "frequency capped", "throttled", "soft temperature limit (earlier)")),
    ],
)  # fmt: skip
def test_every_bit_of_a_pi_in_words(tree: Tree, mask: str, words: tuple[str, ...]) -> None:
    assert Sensors(tree({PI_4_FIRMWARE: mask})).sample().throttled == words


def test_a_raspberry_pi_5_has_its_firmware_elsewhere(tree: Tree) -> None:
    root = tree(
        {
            **zone(0, "cpu-thermal", "50150"),
            **clock(0, 2_400_000),
            **cooling(0, "pwm-fan", 2),  # a fan that turns holds nothing back
            PI_5_FIRMWARE: "80008",
        }
    )
    sample = Sensors(root).sample()
    assert sample.throttled == ("soft temperature limit",)
    assert (sample.temperature_c, sample.clock_mhz) == (pytest.approx(50.15), pytest.approx(2400))


def test_vcgencmd_where_the_kernel_has_no_file(tree: Tree, no_programs: Path) -> None:
    program(no_programs, "vcgencmd", '[ "$1" = get_throttled ] && echo throttled=0x50002')
    assert Sensors(tree({})).sample().throttled == (
        "frequency capped",
        "under-voltage (earlier)",
        "throttled (earlier)",
    )


def test_the_file_is_preferred_to_the_program(tree: Tree, no_programs: Path, tmp_path: Path) -> None:
    program(no_programs, "vcgencmd", f"touch {tmp_path}/asked; echo throttled=0x1")
    assert Sensors(tree({PI_4_FIRMWARE: "0"})).sample().throttled == ()
    assert not (tmp_path / "asked").exists()


@pytest.mark.parametrize("script", ["echo VCHI initialization failed >&2; exit 255", "echo nonsense", "true"])
def test_a_vcgencmd_that_fails_says_nothing(tree: Tree, no_programs: Path, script: str) -> None:
    program(no_programs, "vcgencmd", script)
    sample = Sensors(tree(zone(0, "cpu-thermal", "40000"))).sample()
    assert sample.throttled is None
    assert sample.temperature_c == 40.0


def test_a_program_that_hangs_is_killed_and_left_alone(
    tree: Tree, no_programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool, "PATIENCE", 0.2)
    ours, its = tmp_path / "pid", tmp_path / "child"
    program(no_programs, "vcgencmd", f"echo $$ >> {ours}; sleep 1000 & echo $! > {its}; wait")
    sensors = Sensors(tree({}))
    start = time.monotonic()
    for _ in range(5):
        assert sensors.sample().throttled is None
    assert time.monotonic() - start < 100  # not five times a thousand seconds
    (process,) = ours.read_text().split()  # asked once
    for pid in (int(process), int(its.read_text())):
        assert _ended(pid)


def _ended(pid: int) -> bool:
    """Within a while: killed, or waiting to be reaped by whoever adopts it."""
    for _ in range(500):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False


def test_a_rested_program_is_asked_again(monkeypatch: pytest.MonkeyPatch, no_programs: Path, tmp_path: Path) -> None:
    now = [100.0]
    monkeypatch.setattr(tool.time, "monotonic", lambda: now[0])
    program(no_programs, "teller", f"echo x >> {tmp_path}/asked; cat {tmp_path}/answer")
    teller = tool.Tool("teller", every=10)
    asked = lambda: len((tmp_path / "asked").read_text().split())  # noqa: E731
    assert teller.ask() is None  # no answer yet: it fails
    (tmp_path / "answer").write_text("one")
    now[0] += tool.REST - 1
    assert (teller.ask(), asked()) == (None, 1)
    now[0] += 2
    assert (teller.ask(), asked()) == ("one", 2)
    (tmp_path / "answer").write_text("two")
    now[0] += 9
    assert (teller.ask(), asked()) == ("one", 2)  # stands until it is due
    now[0] += 2
    assert (teller.ask(), asked()) == ("two", 3)


def test_no_such_program_and_one_that_cannot_start(no_programs: Path) -> None:
    assert tool.Tool("teller", every=0).ask() is None
    (no_programs / "teller").write_text("#!/no/such/interpreter\n")
    (no_programs / "teller").chmod(0o755)
    assert tool.Tool("teller", every=0).ask() is None


ORIN_MODES = "< POWER_MODEL ID=0 NAME=15W >\nCPU_ONLINE CORE_0 1\n< POWER_MODEL ID=1 NAME=7W >\n< PM_CONFIG DEFAULT=0 >"


def orin() -> dict[str, str]:
    return {
        **zone(0, "cpu-thermal", "48343"),
        **zone(1, "gpu-thermal", "91000"),
        **zone(2, "soc0-thermal", "92000"),
        **zone(3, "tj-thermal", "92000"),
        **clock(0, 729_600),
        **clock(4, 1_510_400),
        **cooling(0, "pwm-fan", 1),
        **cooling(1, "cpu-throttle-alert", 0),
        **cooling(2, "cpufreq-cpu0", 0),
        "sys/class/hwmon/hwmon3/name": "soctherm_oc",
        "sys/class/hwmon/hwmon3/oc1_event_cnt": "0",
        "sys/class/hwmon/hwmon3/oc2_event_cnt": "15",
        "sys/class/hwmon/hwmon3/oc3_event_cnt": "37",
        "var/lib/nvpmodel/status": "pmode:0001 fmode:quiet",
        "etc/nvpmodel.conf": ORIN_MODES,
    }


def test_a_jetson_orin_nano(tree: Tree) -> None:
    sample = Sensors(tree(orin())).sample()
    assert sample.temperature_c == pytest.approx(48.343)  # of the processor, not of the hotter GPU beside it
    assert sample.clock_mhz == pytest.approx(1510.4)  # the fastest cluster
    assert sample.throttled == ()  # events before this program started are not its own


def test_a_jetsons_events_and_alerts(tree: Tree) -> None:
    sensors = Sensors(tree(orin()))
    tree({"sys/class/hwmon/hwmon3/oc3_event_cnt": "40", "sys/class/hwmon/hwmon3/oc1_event_cnt": "1"})
    assert sensors.sample().throttled == ("under-voltage", "over-current")
    assert sensors.sample().throttled == ("under-voltage (earlier)", "over-current (earlier)")
    tree({**cooling(1, "cpu-throttle-alert", 1), "sys/class/hwmon/hwmon3/oc3_event_cnt": "41"})
    assert sensors.sample().throttled == ("over-current", "under-voltage (earlier)", "throttled")
    tree({**cooling(1, "cpu-throttle-alert", 0), **cooling(2, "cpufreq-cpu0", 3)})
    said = sensors.sample().throttled
    assert said is not None
    assert set(said) == {"over-current" + EARLIER, "under-voltage" + EARLIER, "frequency capped"}


def test_the_power_mode_by_name_and_when_it_changes(tree: Tree) -> None:
    sensors = Sensors(tree(orin()))
    assert [sensors.sample().power_mode for _ in range(2)] == ["7W", "7W"]
    tree({"var/lib/nvpmodel/status": "pmode:0000"})
    assert sensors.sample().power_mode == "15W"


@pytest.mark.parametrize("broken", [{"etc/nvpmodel.conf": "garbage"}, {"var/lib/nvpmodel/status": "garbage"}])
def test_nvpmodel_where_its_files_do_not_say(tree: Tree, no_programs: Path, broken: dict[str, str]) -> None:
    root = tree({**orin(), **broken})
    assert Sensors(root).sample().power_mode == ""
    program(no_programs, "nvpmodel", 'printf "NV Fan Mode:quiet\\nNV Power Mode: MAXN_SUPER\\n2\\n"')
    assert Sensors(root).sample().power_mode == "MAXN_SUPER"


def test_an_x86_machine_counts_its_throttling(tree: Tree) -> None:
    counter = "sys/devices/system/cpu/cpu{}/thermal_throttle/{}_throttle_count"
    cold = {counter.format(core, kind): "7" for core in (0, 1) for kind in ("core", "package")}
    root = tree(
        {
            **zone(0, "acpitz", "27800"),
            **zone(1, "iwlwifi_1", "99000"),
            **zone(2, "x86_pkg_temp", "66000"),
            **clock(0, 800_000),
            **clock(1, 3_900_123),
            **cold,
        }
    )
    sensors = Sensors(root)
    sample = sensors.sample()
    assert sample.temperature_c == 66.0
    assert sample.clock_mhz == pytest.approx(3900.123)
    assert sample.throttled == ()
    tree({counter.format(1, "core"): "9", counter.format(1, "package"): "8"})
    assert [sensors.sample().throttled for _ in range(2)] == [("throttled",), ("throttled (earlier)",)]


def test_an_amd_processor_by_its_chip(tree: Tree) -> None:
    chips = {
        "sys/class/hwmon/hwmon0/name": "nvme",
        "sys/class/hwmon/hwmon0/temp1_input": "80000",
        "sys/class/hwmon/hwmon1/name": "k10temp",
        "sys/class/hwmon/hwmon1/temp1_input": "55250",
    }
    assert Sensors(tree(chips)).sample().temperature_c == 55.25


def test_an_empty_machine(tmp_path: Path) -> None:
    sample = Sensors(tmp_path / "nothing").sample()
    assert (sample.temperature_c, sample.clock_mhz, sample.throttled, sample.power_mode) == (None, None, None, "")
    assert sample.memory_mb > 1  # of this process, by another way


@pytest.mark.parametrize("nonsense", ["", "-273200", "hello", "999999999", "\0\0"])
def test_a_broken_sensor_silences_itself_alone(tree: Tree, nonsense: str) -> None:
    root = tree({**zone(0, "cpu-thermal", nonsense), **clock(0, 1_000_000), PI_4_FIRMWARE: nonsense})
    sample = Sensors(root).sample()
    assert sample.temperature_c is None
    assert sample.clock_mhz == 1000.0
    root = tree({**zone(1, "cpu1-thermal", "50000")})
    assert Sensors(root).sample().temperature_c == 50.0  # the other one of its kind


def test_a_sensor_that_goes_away_and_comes_back(tree: Tree) -> None:
    root = tree({**zone(0, "cpu-thermal", "50000"), **orin()})
    sensors = Sensors(root)
    temperature, event = root / "sys/class/thermal/thermal_zone0/temp", root / "sys/class/hwmon/hwmon3/oc1_event_cnt"
    temperature.unlink()
    event.unlink()
    assert (sensors.sample().temperature_c, sensors.sample().throttled) == (None, ())
    tree({**zone(0, "cpu-thermal", "51000"), "sys/class/hwmon/hwmon3/oc1_event_cnt": "2"})
    sample = sensors.sample()
    assert (sample.temperature_c, sample.throttled) == (51.0, ("under-voltage",))


def test_cores_that_share_a_clock_are_read_once(tree: Tree) -> None:
    root = tree({"sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "600000"})
    for core in range(4):
        folder = root / f"sys/devices/system/cpu/cpu{core}"
        folder.mkdir()
        (folder / "cpufreq").symlink_to("../cpufreq/policy0")
    sensors = Sensors(root)
    assert sensors.sample().clock_mhz == 600.0
    assert len(sensors._clocks) == 1


def test_this_machine() -> None:
    sensors = Sensors()
    ballast = np.ones(30_000_000, np.uint8)
    full = sensors.sample()
    assert full.memory_mb > ballast.nbytes / 1e6
    assert full.temperature_c is None or -40 < full.temperature_c < 150
