"""What an evaluation found: values that are printed, gated, and kept in the bundle as ``evaluation.json``.

Accuracies and agreement are fractions in 0…1. Drops are points (a top-1 of 0.919 that becomes 0.888 drops 3.1).
"""

from __future__ import annotations

from typing import Literal

import msgspec

from pipeline.accuracy.paired import PairedTable

FORMAT = 1
"""Version of the JSON."""


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """A file against the float network on the same images; the four counts are those of ``PairedTable``."""

    both: int
    lost: int
    gained: int
    neither: int
    drop_points: float
    interval_points: tuple[float, float]
    mcnemar_p: float
    agreement: float

    def table(self) -> PairedTable:
        """The counts that every other number comes from."""
        return PairedTable(self.both, self.lost, self.gained, self.neither)


class FileResult(msgspec.Struct, frozen=True, kw_only=True):
    """One file. What could not be run here is ``not run`` with its reason; a file that gave no answers has failed.

    ``images_per_second`` is this evaluation's throughput on all its threads, not a latency.
    """

    path: str
    sha256: str
    status: Literal["run", "not run", "failed"]
    target: str | None = None
    precision: str | None = None
    reason: str | None = None
    runtime: str | None = None
    top1: float | None = None
    top5: float | None = None
    comparison: Comparison | None = None
    images_per_second: float | None = None


class ReferenceResult(msgspec.Struct, frozen=True, kw_only=True):
    """The float network: a checkpoint, run by torch in float32 on the same bytes as the files."""

    path: str
    sha256: str
    top1: float
    top5: float
    images_per_second: float


class EvaluationResult(msgspec.Struct, frozen=True, kw_only=True):
    """All of one evaluation. ``top_k`` is what "top-5" means here: 5, or the number of classes below that."""

    format: int
    data: str
    data_sha256: str
    images: int
    skipped: tuple[str, ...]
    classes: int
    top_k: int
    confidence: float
    threads: int
    reference: ReferenceResult | None
    files: tuple[FileResult, ...]
    notes: tuple[str, ...]

    def to_json(self) -> bytes:
        """Indented JSON, UTF-8."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1)
