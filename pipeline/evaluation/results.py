"""What an evaluation found: values that are printed, gated, and kept in the bundle as ``evaluation.json``.

Accuracies and agreement are fractions in 0…1. Drops are points (a top-1 of 0.919 that becomes 0.888 drops 3.1).
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from edge_apps.json_text import indented
from pipeline.metrics.paired import PairedTable

FORMAT = 1
"""Version of the JSON."""

Counts = tuple[int, int, int, int]
"""``both``, ``lost``, ``gained``, ``neither`` of a ``PairedTable``; all 0 for a class without a picture."""


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """A file against its reference on the same images; the four counts are those of ``PairedTable``.

    ``per_class`` has the same four for the images of each class, in the order of the evaluation's labels; empty in
    evaluations of versions that did not count them.
    """

    both: int
    lost: int
    gained: int
    neither: int
    drop_points: float
    interval_points: tuple[float, float]
    mcnemar_p: float
    agreement: float
    per_class: tuple[Counts, ...] = ()

    def table(self) -> PairedTable:
        """The counts that every other number comes from."""
        return PairedTable(self.both, self.lost, self.gained, self.neither)


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """A file against its own quantized graph, simulated on some of the evaluation images: what lowering changed.

    ``sqnr_db`` of the logits as in ``metrics.sqnr``, 200 where they are equal; ``drop_points`` is what the file's
    top-1 is below the simulation's, both on these images.
    """

    images: int
    sqnr_db: float
    agreement: float
    simulated_top1: float
    drop_points: float


class FileResult(msgspec.Struct, frozen=True, kw_only=True):
    """One file. What could not be run here is ``not run`` with its reason; a file that gave no answers has failed.

    ``images_per_second`` is this evaluation's throughput on all its threads, not a latency. ``unlike_manifest`` says
    what the opened file holds that its bundle's manifest does not say of it; ``uncounted`` why it was not opened.
    ``made_of`` is the checkpoint's sha256 that a file names which runs here.
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
    drift: Drift | None = None
    unlike_manifest: str | None = None
    uncounted: str | None = None
    made_of: str | None = None
    images_per_second: float | None = None


class ReferenceResult(msgspec.Struct, frozen=True, kw_only=True):
    """The float network: a checkpoint, run by torch in float32 on the same bytes as the files."""

    path: str
    sha256: str
    top1: float
    top5: float
    images_per_second: float


class LooksLike(msgspec.Struct, frozen=True, kw_only=True):
    """An evaluation image that looks like another; at most ``resemblance.APART`` bits of 128 differ.

    ``like`` names the other; None where names were not recorded: of training images. ``mirrored``: it looks so once it
    is mirrored left to right.
    """

    name: str
    like: str | None
    bits: int
    mirrored: bool = False


class Overlap(msgspec.Struct, frozen=True, kw_only=True):
    """Evaluation images that the files or their network know already, by name.

    ``trained``: the same bytes trained the network. ``like_trained`` and ``like_calibrated``: other bytes that look
    like an image that trained the network or calibrated the files: probably the same image, encoded anew.
    """

    trained: tuple[str, ...] = ()
    like_trained: tuple[LooksLike, ...] = ()
    like_calibrated: tuple[LooksLike, ...] = ()


class EvaluationResult(msgspec.Struct, frozen=True, kw_only=True):
    """All of one evaluation. ``top_k`` is what "top-5" means here: 5, or the number of classes below that.

    ``reference`` is what every file was compared with. ``against`` names the bundle whose file of the same target and
    precision each was compared with instead; there is no float network then. ``trained_on``: the images are known to
    be those that trained the network. ``absent_classes`` are the labels that the data has no folder for: nothing
    was measured on them.
    """

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
    labels: tuple[str, ...] = ()
    repeated: tuple[str, ...] = ()
    against: str | None = None
    trained_on: bool = False
    absent_classes: tuple[str, ...] = ()
    overlap: Overlap = Overlap()

    def covered(self) -> str:
        """How many classes there are, as ``10 classes``; where the data lacks some, ``7 of 10 classes``."""
        part = f"{self.classes - len(self.absent_classes)} of " if self.absent_classes else ""
        return f"{part}{self.classes} classes"

    def to_json(self) -> bytes:
        """Indented JSON, UTF-8."""
        return readable_json(self)


def readable_json(value: msgspec.Struct) -> bytes:
    """Indented JSON, UTF-8, with lists of numbers on one line: the counts of 1,000 classes are 1,000 lines."""
    text = indented(value)
    # A string in JSON holds no line break, so this finds lists and nothing else.
    return re.sub(rb"\[\n[\d\s,.eE+-]+\]", lambda found: b"[" + b" ".join(found[0][1:-1].split()) + b"]", text)
