"""What one run measures, and on what: known when its model is warm."""

from __future__ import annotations

import msgspec

from edge_apps.camera.inference.model import Opened
from edge_apps.camera.sources.parse import Source
from edge_apps.images import printable
from edge_apps.runtime.device import Device, governor, this_device
from edge_apps.runtime.identity import Identity


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a run before its first frame: columns of the log's table ``session``, facts on the page.

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


def session_of(
    source: Source, opened: Opened, identity: Identity, *, warmup: int, first_ms: float, settings: str = ""
) -> Session:
    """Return what is known of a run when its model is warm: after ``warmup`` inferences, the first in ``first_ms``."""
    runner = opened.runner
    manifest = runner.manifest
    return Session(
        device=this_device(),
        device_id=identity.id,
        device_name=identity.name,
        governor=governor(),
        runtime=runner.runtime,
        threads=runner.threads,
        model=manifest.model,
        file=printable(runner.path.name),
        sha256=opened.sha256,
        target=manifest.target,
        precision=manifest.precision,
        input=f"{manifest.preprocess.height}×{manifest.preprocess.width}",
        source=source.text,
        settings=settings,
        load_ms=opened.load_ms,
        first_ms=first_ms,
        warmup=warmup,
    )
