"""Devices and models side by side, in figures and as a picture."""

import dataclasses
import random
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest

from edge_apps.camera.log.compare import as_json, compare_logs
from edge_apps.camera.log.merge import merge_logs
from edge_apps.camera.log.plot import check_plot, write_plot
from edge_apps.errors import BadInput, MissingExtra
from edge_apps.runtime.device import this_device

PI = msgspec.structs.replace(this_device(), board="Raspberry Pi 5 Model B Rev 1.0")


@pytest.fixture
def two(logs, tmp_path: Path) -> list[Path]:
    """A slow device, and a fast one that ran two models."""
    chance = random.Random(1)
    slow, fast = tmp_path / "slow.db", tmp_path / "fast.db"
    for path, low, changes in (
        (slow, 80, {"device": PI}),
        (fast, 20, {"load_ms": 7.0}),
        (fast, 5, {"file": "small-int8.tflite", "sha256": "cd" * 32}),
    ):
        frames = [logs.frame(n, infer=int(chance.gauss(low, low / 20) * 1e6)) for n in range(200)]
        logs.write(path, [*frames, logs.sample(), logs.sample(throttled=("throttled",), temperature_c=84.0)], **changes)
    return [slow, fast]


def test_the_fastest_first_and_what_tells_them_apart(two) -> None:
    compared = compare_logs(two)
    assert [line.group.file for line in compared] == ["small-int8.tflite", "colours-int8.fake", "colours-int8.fake"]
    assert [line.names[0] for line in compared] == [this_device().board or this_device().cpu] * 2 + [PI.board]
    assert [round(line.group.stages["total"].p50 / 5) for line in compared] == [1, 4, 16]
    assert compared[0].group.state.throttled == 0.5
    first = as_json(compared)[0]
    assert first["stages"]["total"]["p99_is_indicative"] is True
    assert msgspec.json.decode(msgspec.json.encode(first))["state"]["temperature_max"] == 84.0


def test_waiting_for_the_camera_is_no_cost(logs, tmp_path: Path) -> None:
    """int8 at 10 frames a second before fp32 at 30, whose frames are through sooner because they come sooner."""
    path = tmp_path / "latency.db"
    for file, infer, wait, settings in (("fp32.pte", 2_000_000, 33, "30 fps"), ("int8.pte", 1_000_000, 100, "10 fps")):
        frame = logs.frame(0, infer=infer)
        waited = {"capture": wait * 10**6, "total": wait * 10**6 + frame.times["total"]}
        times = {**frame.times, **waited}
        logs.write(path, [dataclasses.replace(frame, times=times)], file=file, sha256=file * 8, settings=settings)
    compared = compare_logs([path])
    assert [line.group.file for line in compared] == ["int8.pte", "fp32.pte"]
    assert compared[0].group.setup == "folder:x (10 fps)"


def test_lines_that_agree_in_device_and_file_say_what_differs(logs, tmp_path: Path) -> None:
    path = tmp_path / "latency.db"
    for changes in ({}, {"threads": 4}, {"threads": 4, "sha256": "cd" * 32}):
        logs.write(path, [logs.frame(0)], **changes)
    names = {line.names[1:] for line in compare_logs([path])}
    assert names == {
        ("colours-int8.fake", "1 thread", "abababab"),
        ("colours-int8.fake", "4 threads", "abababab"),
        ("colours-int8.fake", "4 threads", "cdcdcdcd"),
    }


def test_the_power_that_a_device_allowed_itself_tells_lines_apart(logs, tmp_path: Path) -> None:
    path = tmp_path / "latency.db"
    for governor, infer in (("powersave", 40), ("performance", 10)):
        logs.write(path, [logs.frame(0, infer=infer), logs.sample(power_mode="15W")], governor=governor)
    logs.write(path, [logs.frame(0, infer=5), logs.sample(power_mode="MAXN")], governor="performance")
    assert [line.names[2:] for line in compare_logs([path])] == [
        ("governor performance; power mode MAXN",),
        ("governor performance; power mode 15W",),
        ("governor powersave; power mode 15W",),
    ]


def test_a_run_that_was_merged_counts_once(two, tmp_path: Path) -> None:
    merge_logs(tmp_path / "all.db", two)
    assert [line.group.stages["total"].n for line in compare_logs([*two, tmp_path / "all.db"])] == [200] * 3


def test_without_a_frame_there_is_nothing_to_compare(logs, tmp_path: Path) -> None:
    logs.write(tmp_path / "latency.db")
    with pytest.raises(BadInput, match="No frame was logged in any"):
        compare_logs([tmp_path / "latency.db"])


def test_the_plot_says_what_the_figures_say(two, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: this test did NOT run")
    compared = compare_logs(two)
    for name in ("one.svg", "two.svg", "one.png"):
        write_plot(tmp_path / name, compared)
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes(), (
        "the same figures, the same bytes"
    )
    text = " ".join(re.findall(r"<!-- (.*?) -->", (tmp_path / "one.svg").read_text()))
    ElementTree.parse(tmp_path / "one.svg")
    assert "milliseconds" in text
    for line in compared:
        assert f"{line.group.stages['infer'].p50:#.3g}" in text
    assert "Raspberry Pi 5 Model B Rev 1.0" in text


def test_names_in_a_plot_are_shown_as_they_are(logs, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: this test did NOT run")
    path = tmp_path / "latency.db"
    logs.write(path, [logs.frame(0, infer=0)], file="$\\frac{m}$_" + "long" * 100)
    write_plot(tmp_path / "plot.svg", compare_logs([path]))
    assert "frac" in (tmp_path / "plot.svg").read_text()


def test_letters_that_the_font_lacks_are_no_warning(logs, tmp_path: Path, recwarn) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: this test did NOT run")
    path = tmp_path / "latency.db"
    logs.write(path, [logs.frame(0)], file="日本語-int8.tflite")
    for suffix in ("svg", "png"):
        write_plot(tmp_path / f"plot.{suffix}", compare_logs([path]))
    assert [str(warning.message) for warning in recwarn] == []


def test_a_plot_that_cannot_be_is_refused_before_work_starts(tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(BadInput, match=r"its name ends in \.svg or \.png"):
        check_plot(tmp_path / "plot.pdf")
    with pytest.raises(BadInput, match="Cannot write"):
        check_plot(Path("/proc/plot.svg"))
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtra, match=r"needs matplotlib, which is not installed: pip install '\.\[report\]'"):
        check_plot(tmp_path / "plot.svg")
