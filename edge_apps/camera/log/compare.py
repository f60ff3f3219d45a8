"""Devices and models side by side: what each measured, in one order and one unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from edge_apps.camera.inference.stage_names import stages_as_json
from edge_apps.camera.log.devices import labels
from edge_apps.camera.log.merge import merged_logs
from edge_apps.camera.log.summary import Group, summarize
from edge_apps.errors import BadInput

SHOWN = ("age", "infer")
"""Stages that are compared: the end-to-end latency of a frame, and what the network costs. Not ``total``: most of it
may be waiting for the camera's next frame."""

NEEDED = {"infer", "total"}
"""Stages that every frame has; a log that lacks them for a device was changed, and says nothing of that device."""


@dataclass(frozen=True)
class Compared:
    """One line of the comparison; ``names`` are its device, its file, and what else tells it from the others."""

    group: Group
    names: tuple[str, ...]


def compare_logs(files: Sequence[Path]) -> list[Compared]:
    """What the sessions of several logs measured, pooled as in the summary of one, the fastest network first.

    A session that is in several files counts once.

    Raises:
        BadInput: a file that is no log, or no frame in any of them.
    """
    with merged_logs(files) as database:
        groups = [group for group in summarize(database, ", ".join(map(str, files))) if group.stages.keys() >= NEEDED]
    if not groups:
        raise BadInput("No frame was logged in any of these files: there is nothing to compare.")
    groups.sort(key=lambda group: group.stages["infer"].p50)
    devices = labels({group.device_id: group.device_name for group in groups})
    described = [_description(group, devices[group.device_id]) for group in groups]
    told = ["device", "file", *_telling(described)]
    return [Compared(group, tuple(each[name] for name in told)) for group, each in zip(groups, described, strict=True)]


def _telling(described: Sequence[dict[str, str]]) -> list[str]:
    """What else tells lines apart that agree in device and file; no hash where a name does it."""
    told: list[str] = []
    for name in [name for name in described[0] if name not in ("device", "file")]:
        before = {tuple(each[known] for known in ("device", "file", *told)) for each in described}
        after = {tuple(each[known] for known in ("device", "file", *told, name)) for each in described}
        if len(after) > len(before):
            told.append(name)
    return told


def _description(group: Group, device: str) -> dict[str, str]:
    """What can tell two lines apart, most telling first."""
    return {
        "device": device,
        "file": group.file,
        "hardware": group.device.hardware,
        "runtime": group.runtime,
        "threads": f"{group.threads} thread{'s' if group.threads != 1 else ''}",
        "source": group.source,
        "settings": group.settings,
        "power": group.power,
        "sha256": group.sha256[:8],
        "fingerprint": f"hardware {group.fingerprint[:6]}",
    }


def as_json(compared: Sequence[Compared]) -> list[dict[str, Any]]:
    """The figures for programs, stages as in ``log summary --json``."""
    return [{**msgspec.to_builtins(c.group), "stages": stages_as_json(c.group.stages)} for c in compared]
