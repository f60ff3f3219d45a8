"""The record of a search for float layers, as a bundle's manifest stores it: ``pipeline export --search`` writes it."""

from __future__ import annotations

import msgspec


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """The simulated files with so many layers in float, on the ranking images, in points of top-1.

    expected_upper_points: the upper end of the gate's interval, should the judging images show the same rates.
    """

    float_layers: int
    drop_points: float
    interval_points: tuple[float, float]
    expected_upper_points: float


class SearchFound(msgspec.Struct, frozen=True, kw_only=True):
    """ranking: layers with dB, alone in int8, the most damaging first. float_layers: None where not even all would do.

    trials in the order in which they were made; the first is that of plain int8.
    """

    ranking: dict[str, float]
    float_layers: tuple[str, ...] | None
    plain: Trial
    chosen: Trial
    trials: tuple[Trial, ...]


class SearchCost(msgspec.Struct, frozen=True, kw_only=True):
    """Of one target: bytes, and the median of single inferences in milliseconds on one core, of files taking turns.

    int8 is the file without the float layers that the search chose, mixed the one with them.
    """

    target: str
    bytes: dict[str, int]
    median_ms: dict[str, float]


class JudgedFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file on the judging images, as the gate has it."""

    path: str
    verdict: str
    drop_points: float | None
    interval_points: tuple[float, float] | None


class ImagesUsed(msgspec.Struct, frozen=True, kw_only=True):
    """Which images."""

    data: str
    images: int
    sha256: str


class SearchRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a search found, on which images, and what it cost: ``search`` in the bundle's manifest."""

    max_drop: float
    confidence: float
    rank: ImagesUsed
    found: SearchFound
    judge: ImagesUsed
    judged: tuple[JudgedFile, ...]
    cost: tuple[SearchCost, ...]
