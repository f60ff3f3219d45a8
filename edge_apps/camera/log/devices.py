"""Names the devices of a log: each has an id that never changes, and is shown under its newest name."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Mapping

from edge_apps.camera.sources.parse import Event
from edge_apps.runtime.device import Device
from edge_apps.runtime.identity import Identity, short


def id_of(session: sqlite3.Row) -> str:
    """Return the device id of a session's row; a program of version 3 that still ran during the upgrade wrote none."""
    found: str = session["device_id"] or session["fingerprint"]
    return found


def newest_names(database: sqlite3.Connection) -> dict[str, str]:
    """Return the name of each device, by its id, as of its newest session; for a database whose rows have names."""
    rows = "SELECT device_id, fingerprint, device_name, board FROM session ORDER BY started, id"
    return {id_of(row): row["device_name"] or row["board"] or short(id_of(row)) for row in database.execute(rows)}


def labels(names: Mapping[str, str]) -> dict[str, str]:
    """Return what tells devices apart, by id: the name; with a part of the id where several have that name."""
    times = Counter(names.values())
    return {id_: name if times[name] == 1 else f"{name} ({short(id_)})" for id_, name in names.items()}


def described(id_: str, name: str, device: Device) -> str:
    """Return the line for people: ``kitchen-pi · Raspberry Pi 5, Cortex-A76, 4 cores, 8.0 GB · device 3f2a91c0``.

    A name that only repeats the hardware is left out.
    """
    named = "" if name == device.hardware else f"{name} · "
    return f"{named}{device} · device {short(id_)}"


def no_stored_id(identity: Identity) -> Event:
    """Return the event that says what went wrong with the stored id of this device."""
    return Event(time.time(), "device-id", identity.fault)
