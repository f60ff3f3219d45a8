"""What one run measures, and on what."""

from __future__ import annotations

import uuid
from datetime import datetime, timezone
from typing import Any

import msgspec

from edge_apps import __version__
from edge_apps.runtime.device import Device


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """The columns of ``session`` that are known before the run's first frame.

    Without ``device_id`` and ``device_name`` the hardware alone says which device it is, as in logs before version 4.
    """

    device: Device
    device_id: str = ""
    device_name: str = ""
    runtime: str
    threads: int
    model: str
    file: str
    sha256: str
    target: str
    precision: str
    input: str
    source: str
    settings: str = ""
    load_ms: float
    first_ms: float
    warmup: int
    governor: str = ""

    def __post_init__(self) -> None:
        """Fill in who the device is."""
        msgspec.structs.force_setattr(self, "device_id", self.device_id or self.device.fingerprint)
        msgspec.structs.force_setattr(self, "device_name", self.device_name or self.device.hardware)

    def row(self) -> dict[str, Any]:
        """The row of a session that begins now, under a UUID of its own."""
        return {
            **msgspec.structs.asdict(self),
            "uuid": str(uuid.uuid4()),
            "started": utc_now(),
            "program": __version__,
            "fingerprint": self.device.fingerprint,
            "board": self.device.board,
            "soc": self.device.soc,
            "os": self.device.os,
            "device": msgspec.json.encode(self.device).decode(),
        }


def utc_now() -> str:
    """ISO 8601, milliseconds."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
