"""``edge-camera info``: this machine, and machines on which something is missing."""

import importlib.metadata
import json
from collections.abc import Callable

import msgspec
import pytest

from edge_apps.camera.commands import info
from edge_apps.runtime import coreml
from edge_apps.runtime import executorch_native as native
from edge_apps.runtime.device import this_device
from edge_apps.runtime.identity import default_name, stored_id

Found = dict[str, info.RuntimeInfo]

ALL = {
    "ai-edge-litert": "2.3.0",
    "tflite-runtime": "2.14.0",
    "flatbuffers": "25.1",
    "executorch": "1.5.1",
    "coremltools": "9.0",
    "pillow": "11.0",
}


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Found]:
    """``installed("executorch", …)`` looks at a machine that has these packages, and what else is said of it."""

    def look(*packages: str, built: bool = False, torch: bool = False, mac: bool = False) -> Found:
        def version(name: str) -> str:
            if name not in packages:
                raise importlib.metadata.PackageNotFoundError(name)
            return ALL[name]

        monkeypatch.setattr(importlib.metadata, "version", version)
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if torch and name == "torch" else None)
        monkeypatch.setattr(native, "find", lambda: object() if built else None)
        monkeypatch.setattr(coreml, "_system", lambda: "darwin" if mac else "linux")
        return {found.package: found for found in info.info().runtimes}

    return look


def test_a_bare_device_is_told_what_to_install(installed: Callable[..., Found]) -> None:
    found = installed()
    assert {name: one.state for name, one in found.items()} == {
        "ai-edge-litert": "missing",
        "tflite-runtime": "missing",
        "executorch": "missing",
        "coremltools": "not here",
    }
    assert "pip install '.[litert]'" in found["ai-edge-litert"].advice
    assert "pip install '.[tflite]'" in found["tflite-runtime"].advice
    assert found["executorch"].advice == "pip install --no-deps executorch, then edge-camera setup executorch"
    assert found["coremltools"].advice == ""


def test_a_device_with_litert_needs_no_predecessor(installed: Callable[..., Found]) -> None:
    found = installed("ai-edge-litert", "flatbuffers")
    assert (found["ai-edge-litert"].state, found["ai-edge-litert"].version) == ("ready", "2.3.0")
    assert (found["tflite-runtime"].state, found["tflite-runtime"].advice) == ("not needed", "")
    assert installed("tflite-runtime", "flatbuffers")["tflite-runtime"].state == "ready"
    assert installed("ai-edge-litert")["ai-edge-litert"].advice == "pip install flatbuffers"


@pytest.mark.parametrize(
    ("built", "torch", "state", "advice"),
    [
        (True, False, "ready", ""),
        (False, True, "ready", "edge-camera setup executorch"),
        (False, False, "incomplete", "edge-camera setup executorch"),
    ],
)
def test_executorch_with_and_without_its_native_module(
    installed: Callable[..., Found], built: bool, torch: bool, state: str, advice: str
) -> None:
    found = installed("executorch", built=built, torch=torch)["executorch"]
    assert (found.state, found.advice, found.version) == (state, advice, "1.5.1")


def test_a_native_module_that_is_refused_is_named(
    installed: Callable[..., Found], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "refusal", lambda: native.Refusal("others can write to 'x.so'", "do this"))
    for torch, state in ((True, "ready"), (False, "incomplete")):
        found = installed("executorch", torch=torch)["executorch"]
        assert (found.state, found.advice) == (state, "do this")
        assert "is refused: others can write to 'x.so'" in found.detail
    assert installed("executorch", built=True)["executorch"].advice == ""


def test_core_ml_on_a_mac(installed: Callable[..., Found]) -> None:
    assert installed("coremltools", "pillow", mac=True)["coremltools"].state == "ready"
    assert installed("coremltools", mac=True)["coremltools"].advice == "pip install pillow"
    assert "[coreml]" in installed(mac=True)["coremltools"].advice


def test_this_machine(edge_camera: Callable[..., object]) -> None:
    ended = edge_camera("info", "--json")
    assert ended.returncode == 0
    said = json.loads(ended.stdout)
    device = this_device()
    assert said["fingerprint"] == device.fingerprint
    assert said["device"]["kernel"] == device.kernel
    assert (said["device_id"], said["device_name"]) == (stored_id(), default_name() or device.hardware)
    assert said["sensors"]["memory_mb"] > 10
    assert [one["suffix"] for one in said["runtimes"]] == [".tflite", ".tflite", ".pte", ".mlpackage"]


def test_people_see_all_of_it(
    edge_camera: Callable[..., object], installed: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed("executorch", "tflite-runtime", "flatbuffers")
    sample = info.Sensors().sample()
    state = {"temperature_c": 61.83, "clock_mhz": 1500.0, "throttled": ("throttled",), "power_mode": "15W"}
    monkeypatch.setattr(info.Sensors, "sample", lambda self: msgspec.structs.replace(sample, **state))  # noqa: ARG005
    monkeypatch.setattr(info, "governor", lambda: "ondemand")
    text = edge_camera("info").stdout
    lines = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    for name, value in (("Temperature", "61.8 °C"), ("Clock", "1,500 MHz"), ("Governor", "ondemand")):
        assert lines[name].split(maxsplit=1)[1].strip() == value
    assert lines["Throttled"].rstrip().endswith("  throttled")
    assert lines["Power"].split()[-1] == "15W"
    assert this_device().fingerprint in lines["Device"]
    assert "incomplete: the native module is not built" in lines[".pte"]
    assert lines[".pte"].rstrip().endswith("edge-camera setup executorch")
