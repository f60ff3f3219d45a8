"""What a latency log says: per device, model file and runtime, the percentiles of every stage."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_apps.camera.log.database import reading
from edge_apps.camera.log.devices import id_of, newest_names
from edge_apps.camera.log.figures import figures
from edge_apps.errors import BadInput
from edge_apps.runtime.device import Device
from edge_apps.runtime.latency import Summary
from edge_apps.untrusted import parse_json

SAME = ("sha256", "runtime", "threads", "source", "settings", "governor")
"""Sessions of one device that agree in these, and in the power modes that it was in meanwhile, measured the same thing:
their frames are pooled. Another source, another capture."""

HELD_BACK = "(earlier)"
"""Ends the words for what held the device back before, and does no longer (``edge_apps.runtime.sensors``)."""


@dataclass(frozen=True)
class State:
    """How the device did meanwhile, of ``samples`` looks at it; None: it does not say."""

    samples: int
    throttled: float | None  # share of the samples in which something held it back
    throttled_by: dict[str, int]  # by what, in how many samples
    temperature_max: float | None  # °C
    clock_min: float | None  # MHz
    memory_max: float | None  # 10^6 bytes, of the program
    power_modes: tuple[str, ...]


@dataclass(frozen=True)
class Group:
    """Sessions of one device that agree in ``SAME`` and power mode; no ``stages`` where no frame was logged.

    ``device_name`` is the newest name of the device, whatever it was called in these sessions.
    ``frames_dropped`` rows were taken away by the log's caps, or while the disk could not be written; see ``Figures``
    for ``by_histogram`` and ``missing``.
    """

    device: Device
    device_id: str
    device_name: str
    fingerprint: str
    model: str
    file: str
    sha256: str
    target: str
    precision: str
    input: str
    runtime: str
    threads: int
    source: str
    settings: str
    governor: str  # of the processor's clock; '': not said
    started: tuple[str, ...]
    unfinished: int
    load_ms: tuple[float, ...]
    first_ms: tuple[float, ...]
    events: dict[str, int]
    stages: dict[str, Summary]
    fps: float | None
    frames_dropped: int
    by_histogram: int
    missing: int
    state: State

    @property
    def setup(self) -> str:
        """Source and settings, as people read them."""
        return f"{self.source} ({self.settings})" if self.settings else self.source

    @property
    def power(self) -> str:
        """How much power the device allowed itself, in words; '': it does not say."""
        mode = ", ".join(self.state.power_modes)
        told = (("governor", self.governor), ("power mode", mode))
        return "; ".join(f"{what} {name}" for what, name in told if name)


def summarize_log(path: Path) -> list[Group]:
    """Read a log, and pool the sessions that measured the same thing, in the order of their first run.

    Raises:
        BadInput: no such log, a file that is none, a damaged one, or one without a session.
    """
    with reading(path) as database:
        groups = summarize(database, str(path))
    if not groups:
        raise BadInput(f"'{path}' holds no session yet: 'edge-camera run' writes some with `log={path}`.")
    return groups


def summarize(database: sqlite3.Connection, name: str) -> list[Group]:
    """Of an open log, whose rows have names, as one moment shows it.

    Raises:
        BadInput: what is in it makes no sense; ``name`` says which log.
    """
    database.execute("BEGIN")
    try:
        names = newest_names(database)
        alike: dict[tuple[Any, ...], list[sqlite3.Row]] = {}
        for session in database.execute("SELECT * FROM session ORDER BY id"):
            modes = _power_modes(database, _these([session]))
            device = id_of(session), session["fingerprint"]  # a disk may have moved to other hardware with its id
            alike.setdefault((device, modes, *(session[name] for name in SAME)), []).append(session)
        return [_group(database, rows, names) for rows in alike.values()]
    except ValueError as error:
        raise BadInput(f"The log '{name}' is damaged: {error}.") from error
    finally:
        database.execute("ROLLBACK")


def _group(database: sqlite3.Connection, sessions: list[sqlite3.Row], names: dict[str, str]) -> Group:
    last = sessions[-1]
    ids = [session["id"] for session in sessions]
    these = _these(sessions)
    events = database.execute(f"SELECT kind, count(*) FROM event WHERE {these} GROUP BY kind ORDER BY kind")
    found = figures(database, ids)
    return Group(
        device=parse_json(last["device"].encode(), Device),
        device_id=id_of(last),
        device_name=names[id_of(last)],
        fingerprint=last["fingerprint"],
        model=last["model"],
        file=last["file"],
        sha256=last["sha256"],
        target=last["target"],
        precision=last["precision"],
        input=last["input"],
        runtime=last["runtime"],
        threads=last["threads"],
        source=last["source"],
        settings=last["settings"],
        governor=last["governor"],
        started=tuple(session["started"] for session in sessions),
        unfinished=sum(session["ended"] is None for session in sessions),
        load_ms=tuple(session["load_ms"] for session in sessions),
        first_ms=tuple(session["first_ms"] for session in sessions),
        events=dict(events),
        stages=found.stages,
        fps=found.fps,
        frames_dropped=sum(session["frames_dropped"] for session in sessions),
        by_histogram=found.by_histogram,
        missing=found.missing,
        state=_state(database, these),
    )


def _these(sessions: list[sqlite3.Row]) -> str:
    """The condition for rows of these sessions."""
    return f"session IN ({', '.join(str(session['id']) for session in sessions)})"


def _power_modes(database: sqlite3.Connection, these: str) -> tuple[str, ...]:
    """More than one where it was changed meanwhile; none where no sample was taken, or none is kept any more."""
    found = database.execute(f"SELECT DISTINCT power_mode FROM sample WHERE {these} AND power_mode != '' ORDER BY 1")
    return tuple(row[0] for row in found)


def _state(database: sqlite3.Connection, these: str) -> State:
    (samples, temperature, clock, memory) = database.execute(
        f"SELECT count(*), max(temperature_c), min(clock_mhz), max(memory_mb) FROM sample WHERE {these}"
    ).fetchone()
    said = held = 0
    by: dict[str, int] = {}
    for text, n in database.execute(
        f"SELECT throttled, count(*) FROM sample WHERE {these} AND throttled IS NOT NULL GROUP BY throttled"
    ):
        words = [word for word in parse_json(text.encode(), list[str]) if not word.endswith(HELD_BACK)]
        said += n
        held += n if words else 0
        for word in words:
            by[word] = by.get(word, 0) + n
    return State(
        samples=samples,
        throttled=held / said if said else None,
        throttled_by=by,
        temperature_max=temperature,
        clock_min=clock,
        memory_max=memory,
        power_modes=_power_modes(database, these),
    )
