"""The options of ``edge-camera run`` as they were given, with the types that click gave them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Each option by the name of its parameter; None where it was not given and has no default."""

    model: Path
    trust: Path | None
    target: str | None
    precision: str | None
    threads: int | None
    xnnpack: bool
    source_text: str
    loop: bool
    every_frame: bool
    size: str | None
    fps: float | None
    rotate: str
    mirror: bool
    hang_after: float | None
    wait_for_source: bool
    frames: int | None
    top_k: int | None
    threshold: float
    smooth: str | None
    pipelined: bool
    watch: bool
    snapshot: Path | None
    snapshot_on: tuple[str, ...]
    snapshot_every: float | None
    snapshot_most: int | None
    warmup: int
    device_name: str | None
    log: Path | None
    log_max_size: str | None
    log_max_age: str | None
    web: str | None
    web_token_file: Path | None
    quiet: bool
    as_json: bool
