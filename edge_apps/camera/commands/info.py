"""What this machine is, its state right now, and which exported files it can run; what is missing, how to get it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from typing import Literal

import msgspec
from rich.text import Text

from edge_apps import __version__
from edge_apps.console import results, table
from edge_apps.errors import install
from edge_apps.json_text import indented
from edge_apps.runtime import executorch_native as native
from edge_apps.runtime.device import Device, governor, this_device
from edge_apps.runtime.identity import default_name, short, stored_id
from edge_apps.runtime.runner import runs_elsewhere
from edge_apps.runtime.sensors import Sample, Sensors

State = Literal["ready", "incomplete", "missing", "not needed", "not here"]
"""``incomplete``: installed, and yet it runs nothing before ``advice`` is followed. ``not here``: no such machine."""


class RuntimeInfo(msgspec.Struct, frozen=True):
    """One package that runs exported files, as installed here; ``advice`` is the command that gets or completes it."""

    suffix: str
    package: str
    version: str | None
    state: State
    detail: str = ""
    advice: str = ""


class Info(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. ``device_id`` is None until the first run stores one; a run may be given another name."""

    program: str
    device_id: str | None
    device_name: str
    fingerprint: str
    device: Device
    governor: str
    sensors: Sample
    runtimes: tuple[RuntimeInfo, ...]


def info() -> Info:
    """Look at this machine."""
    device = this_device()
    return Info(
        program=__version__,
        device_id=stored_id(),
        device_name=default_name() or device.hardware,
        fingerprint=device.fingerprint,
        device=device,
        governor=governor(),
        sensors=Sensors().sample(),
        runtimes=(_litert(), _tflite_runtime(), _executorch(), _coreml()),
    )


def _litert() -> RuntimeInfo:
    return _tflite("ai-edge-litert", install("litert"))


def _tflite_runtime() -> RuntimeInfo:
    """The predecessor, for boards where its successor cannot be had."""
    found = _tflite("tflite-runtime", install("tflite"))
    if found.version is None and _version("ai-edge-litert"):
        return RuntimeInfo(".tflite", "tflite-runtime", None, "not needed", "ai-edge-litert does it")
    return found


def _tflite(package: str, advice: str) -> RuntimeInfo:
    version = _version(package)
    if version is None:
        return RuntimeInfo(".tflite", package, None, "missing", advice=advice)
    if _version("flatbuffers") is None:
        what = "flatbuffers, which reads the labels inside the file, is not installed"
        return RuntimeInfo(".tflite", package, version, "incomplete", what, "pip install flatbuffers")
    return RuntimeInfo(".tflite", package, version, "ready")


def _executorch() -> RuntimeInfo:
    version, build = _version("executorch"), native.SETUP
    if version is None:
        how = f"pip install --no-deps executorch, then {build}"
        return RuntimeInfo(".pte", "executorch", None, "missing", advice=how)
    if native.find() is not None:
        return RuntimeInfo(".pte", "executorch", version, "ready", "native module built")
    refused = native.refusal()
    state, advice = (f"is refused: {refused.reason}", refused.advice) if refused else ("is not built", build)
    if importlib.util.find_spec("torch"):
        what = f"by its Python API and torch; the native module, which needs no torch, {state}"
        return RuntimeInfo(".pte", "executorch", version, "ready", what, advice)
    return RuntimeInfo(".pte", "executorch", version, "incomplete", f"the native module {state}", advice)


def _coreml() -> RuntimeInfo:
    version, elsewhere = _version("coremltools"), runs_elsewhere(".mlpackage")
    if elsewhere:
        return RuntimeInfo(".mlpackage", "coremltools", version, "not here", elsewhere)
    if version is None:
        return RuntimeInfo(".mlpackage", "coremltools", None, "missing", advice=install("coreml"))
    if _version("pillow") is None:
        return RuntimeInfo(
            ".mlpackage", "coremltools", version, "incomplete", "Pillow is not installed", "pip install pillow"
        )
    return RuntimeInfo(".mlpackage", "coremltools", version, "ready")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def as_json(found: Info) -> str:
    """One document."""
    return indented(found, 2).decode()


def show(found: Info) -> None:
    """For people."""
    device, sensors = found.device, found.sensors
    facts = {
        "Device": f"{found.device_name}, {_id(found)}, hardware {found.fingerprint}",
        "Board": device.board,
        "SoC": device.soc,
        "CPU": " ".join(word for word in (device.cpu, f"({device.arch})") if word),
        "Cores": f"{device.cores}, {device.usable_cores} usable by this program",
        "Memory": f"{device.memory_mb / 1000:.1f} GB, {sensors.memory_mb:,.0f} MB held by this program",
        "System": f"{device.os}, kernel {device.kernel}",
        "Python": f"{device.python}, OpenCV {device.opencv}, NumPy {device.numpy}, edge-pipeline {found.program}",
        "Temperature": "" if sensors.temperature_c is None else f"{sensors.temperature_c:.1f} °C",
        "Clock": "" if sensors.clock_mhz is None else f"{sensors.clock_mhz:,.0f} MHz",
        "Governor": found.governor,
        "Throttled": _throttled(sensors),
        "Power mode": sensors.power_mode,
    }
    shown = table()
    shown.show_header = False
    shown.add_column(style="bold")
    shown.add_column()
    for name, value in facts.items():
        shown.add_row(name, Text(value or "this machine does not say", style="" if value else "dim"))
    results().print(shown)
    _show_runtimes(found.runtimes)


def _id(found: Info) -> str:
    """Say who this device is to a log; the whole id is in the JSON."""
    return f"id {short(found.device_id)}" if found.device_id else "no id before its first run"


def _throttled(sensors: Sample) -> str:
    if sensors.throttled is None:
        return ""
    return ", ".join(sensors.throttled) or "no"


def _show_runtimes(runtimes: tuple[RuntimeInfo, ...]) -> None:
    shown = table("Runtimes")
    for name in ("runs", "package", "version", "state", "to get or complete it"):
        shown.add_column(name, overflow="fold")
    for one in runtimes:
        state = f"{one.state}: {one.detail}" if one.detail else one.state
        shown.add_row(*(Text(cell) for cell in (one.suffix, one.package, one.version or "–", state, one.advice)))
    out = results()
    out.print()
    out.print(shown)
