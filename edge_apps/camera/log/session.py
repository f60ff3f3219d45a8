"""The row of a session in the log."""

from __future__ import annotations

import uuid
from datetime import datetime, timezone
from typing import Any

import msgspec

from edge_apps import __version__
from edge_apps.camera.inference.session import Session


def row_of(session: Session) -> dict[str, Any]:
    """Return the row of a session that begins now, under a UUID of its own."""
    return {
        **msgspec.structs.asdict(session),
        "uuid": str(uuid.uuid4()),
        "started": utc_now(),
        "program": __version__,
        "fingerprint": session.device.fingerprint,
        "board": session.device.board,
        "soc": session.device.soc,
        "os": session.device.os,
        "device": msgspec.json.encode(session.device).decode(),
    }


def utc_now() -> str:
    """Return the time now in ISO 8601, with milliseconds."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
