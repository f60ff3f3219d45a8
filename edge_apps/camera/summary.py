"""What a latency log says: per device, model file and runtime, the percentiles of every stage."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edge_apps.camera.log import read_log
from edge_apps.errors import BadInput
from edge_apps.runtime.device import Device
from edge_apps.runtime.latency import STAGES, Summary, summarize

SAME = ("fingerprint", "sha256", "runtime", "threads", "source")
"""Sessions that agree in these measured the same thing: their frames are pooled. Another source, another capture."""


@dataclass(frozen=True)
class Group:
    """Sessions of one device, model file, runtime, thread count and source; no ``stages`` where no frame was logged."""

    device: Device
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
    started: tuple[str, ...]
    unfinished: int
    load_ms: tuple[float, ...]
    first_ms: tuple[float, ...]
    events: dict[str, int]
    stages: dict[str, Summary]


def summarize_log(path: Path) -> list[Group]:
    """Read a log, and pool the sessions that measured the same thing, in the order of their first run.

    Raises:
        BadInput: no such log, a file that is none, a damaged one, or one without a session.
    """
    database = read_log(path)
    database.row_factory = sqlite3.Row
    try:
        sessions = database.execute("SELECT * FROM session ORDER BY id").fetchall()
        if not sessions:
            raise BadInput(f"'{path}' holds no session yet: run 'edge-camera run … --log {path}'.")
        alike: dict[tuple[Any, ...], list[sqlite3.Row]] = {}
        for session in sessions:
            alike.setdefault(tuple(session[name] for name in SAME), []).append(session)
        return [_group(database, rows) for rows in alike.values()]
    except (sqlite3.DatabaseError, msgspec.DecodeError) as error:
        raise BadInput(f"The log '{path}' is damaged: {error}.") from error
    finally:
        database.close()


def _group(database: sqlite3.Connection, sessions: list[sqlite3.Row]) -> Group:
    last = sessions[-1]
    ids = [session["id"] for session in sessions]
    these = f"session IN ({', '.join('?' * len(ids))})"
    events = database.execute(f"SELECT kind, count(*) FROM event WHERE {these} GROUP BY kind ORDER BY kind", ids)
    return Group(
        device=msgspec.json.decode(last["device"], type=Device),
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
        started=tuple(session["started"] for session in sessions),
        unfinished=sum(session["ended"] is None for session in sessions),
        load_ms=tuple(session["load_ms"] for session in sessions),
        first_ms=tuple(session["first_ms"] for session in sessions),
        events=dict(events),
        stages=_stages(database, these, ids),
    )


def _stages(database: sqlite3.Connection, these: str, ids: list[int]) -> dict[str, Summary]:
    """One stage at a time, so that a million frames need eight megabytes."""
    stages = {}
    for stage in STAGES:
        rows = database.execute(f"SELECT {stage}_ns FROM frame WHERE {these}", ids)
        samples = np.fromiter((row[0] for row in rows), np.int64)
        if samples.size:
            stages[stage] = summarize(samples)
    return stages
