"""What a file lost in each class: a class that vanished is found even where top-1 hardly moved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from pipeline.evaluation.results import Comparison, Counts
from pipeline.metrics.paired import PairedTable, holm, loss_p

NAMED = 3
"""So many classes are named in a sentence; the JSON has all."""


class ClassLoss(msgspec.Struct, frozen=True, kw_only=True):
    """One class of one file: of its ``images``, how many percent the reference and the file get right.

    ``holm_p`` is the one-sided exact p of "the file is right as often", corrected for all classes of all files that
    ran.
    """

    label: str
    images: int
    before: float
    after: float
    holm_p: float

    @property
    def points(self) -> float:
        """Percent of the class's images lost; negative where the file gained."""
        return self.before - self.after


class Suspects(msgspec.Struct, frozen=True, kw_only=True):
    """The classes of one file that fell by more than ``limit`` points, worst first.

    ``flagged``: more than chance would explain. ``open``: so many images do not say.
    """

    limit: float
    flagged: tuple[ClassLoss, ...]
    open: tuple[ClassLoss, ...]


def suspects(
    compared: Mapping[str, Comparison], labels: Sequence[str], drop: float, level: float
) -> dict[str, Suspects]:
    """Which classes of which files fell by more than ``drop`` points, and which of them beyond chance.

    A class is flagged where it fell by more than ``drop`` points and its p, by McNemar's exact test and Holm's
    correction, is below ``level``. The test is one-sided, because only a loss is flagged: a two-sided one would spend
    half of its level on classes that gained. All classes with images of all files are one family, so that of bundles
    that lost nothing at most a share of ``level`` is flagged anywhere.
    """
    tests = [(path, index, table) for path, one in compared.items() for index, table in _tables(one.per_class)]
    corrected = holm([loss_p(table) for _, _, table in tests])
    found: dict[str, list[ClassLoss]] = {path: [] for path in compared}
    for (path, index, table), p in zip(tests, corrected, strict=True):
        if 100 * (table.lost - table.gained) > drop * table.n:  # as whole numbers: 1 of 10 is not more than 10 points
            found[path].append(_loss(labels[index], table, p))
    return {
        path: Suspects(
            limit=drop,
            flagged=_worst_first(loss for loss in losses if loss.holm_p < level),
            open=_worst_first(loss for loss in losses if loss.holm_p >= level),
        )
        for path, losses in found.items()
    }


def blind_spots(compared: Mapping[str, Comparison], drop: float, level: float) -> list[int]:
    """The classes that could not be flagged in some file even if it got none of their images right.

    There the reference is right on too few images for any p below ``level`` after correction, or on at most ``drop``
    percent of them. Classes without an image are not among them.
    """
    tests = sum(1 for one in compared.values() for _ in _tables(one.per_class))
    blind = set()
    for one in compared.values():
        for index, table in _tables(one.per_class):
            right = table.both + table.lost
            if right < images_needed(tests, level) or 100 * right <= drop * table.n:
                blind.add(index)
    return sorted(blind)


def images_needed(tests: int, level: float) -> int:
    """How many images k of a class must be lost, and none gained, to be flagged (½ᵏ · tests < level)."""
    lost = 1
    while tests * 0.5**lost >= level:
        lost += 1
    return lost


def worst_classes(comparison: Comparison, labels: Sequence[str]) -> list[tuple[str, float]]:
    """The classes that lost most, as name and points, at most three and only those that lost."""
    drops = [(labels[index], 100 * table.drop) for index, table in _tables(comparison.per_class) if table.drop > 0]
    return sorted(drops, key=lambda drop: -drop[1])[:NAMED]


def _tables(per_class: Sequence[Counts]) -> Iterator[tuple[int, PairedTable]]:
    """Of the classes that have images."""
    return ((index, PairedTable(*counts)) for index, counts in enumerate(per_class) if sum(counts))


def _loss(label: str, table: PairedTable, p: float) -> ClassLoss:
    return ClassLoss(
        label=label,
        images=table.n,
        before=100 * (table.both + table.lost) / table.n,
        after=100 * (table.both + table.gained) / table.n,
        holm_p=p,
    )


def _worst_first(losses: Iterator[ClassLoss]) -> tuple[ClassLoss, ...]:
    return tuple(sorted(losses, key=lambda loss: -loss.points))
