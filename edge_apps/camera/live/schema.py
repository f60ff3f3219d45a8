"""The shape of what the page and ``/api/state`` show: JSON by msgspec, times of the day in seconds since 1970 UTC."""

from __future__ import annotations

from typing import Literal

import msgspec

from edge_apps.camera.inference.session import Session
from edge_apps.camera.live.recent import Point
from edge_apps.runtime.latency import Summary
from edge_apps.runtime.sensors import Sample

VERSION = 2
"""Of this shape; it grows when a field changes its meaning or goes, not when one is added.

Version 2: ``facts.device_name`` is what the device is called; the line about its hardware is ``facts.hardware``."""


class Label(msgspec.Struct, frozen=True):
    """One class and how probable it is, 0 to 1."""

    label: str
    probability: float


class Labels(msgspec.Struct, frozen=True, kw_only=True):
    """What one frame shows: the latest, or the one whose image goes with it. ``age_ms`` is its end-to-end latency.

    ``top`` are the labels as they are shown, smoothed where smoothing is on; ``raw`` those of this frame alone.
    ``decision`` is the best of ``top``, or None where it is less probable than the threshold. ``sequence`` is the
    number of the frame, which counts skipped ones, too; ``frames`` is how many were classified up to this one.
    """

    sequence: int
    frames: int
    name: str
    captured_at: float
    top: tuple[Label, ...]
    raw: tuple[Label, ...]
    decision: str | None
    infer_ms: float
    total_ms: float
    age_ms: float


class Facts(Session, frozen=True, kw_only=True):
    """What runs, on what: all that the log says of it; ``file`` is a name, ``source`` holds no password."""

    hardware: str
    fingerprint: str
    program: str


class Health(msgspec.Struct, frozen=True):
    """Whether frames flow; ``reason`` says why they do not, and is empty where they do."""

    ok: bool
    reason: str


class Happening(msgspec.Struct, frozen=True):
    """Something that happened, ``times`` over; ``at`` and ``reason`` are of the last time."""

    at: float
    kind: str
    reason: str
    times: int


class LogState(msgspec.Struct, frozen=True):
    """How the latency log fares: ``off`` without one, ``paused`` while it cannot be written, and why."""

    state: Literal["off", "writing", "paused"] = "off"
    reason: str = ""
    dropped: int = 0  # rows that were never written


class State(msgspec.Struct, frozen=True, kw_only=True):
    """Everything. ``latency`` is of the last ten seconds, ``history`` and ``samples`` of the last minutes.

    ``started`` is the start in the time of the clock as it is set now: before NTP set it, the clock may have been days
    off. ``decoded_elsewhere``: the stage "decode" is another process's, and no part of "total".
    """

    version: int = VERSION
    at: float
    started: float
    health: Health
    facts: Facts
    frames: int
    skipped: int
    restarts: int
    viewers: int
    fps: float
    labels: Labels | None
    decoded_elsewhere: bool
    latency: dict[str, Summary]
    history: tuple[Point, ...]
    sample: Sample | None
    samples: tuple[Sample, ...]
    events: tuple[Happening, ...]
    log: LogState
