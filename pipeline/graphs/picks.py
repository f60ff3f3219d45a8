"""Positions of an axis that are known in advance, picked by slices and concatenations.

::

    x  →  slice, slice, … → cat

Slices and concatenations run inside delegates, and in int8 they copy bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from pipeline.graphs.shapes import shape_of

MOST_RUNS = 64
"""A list of more runs of neighbours stays one operator: each run is a kernel call."""

MOST_JOINED = 4
"""LiteRT's delegate takes no concatenation of more tensors."""


class Pick(nn.Module):
    """``x`` at these positions of an axis, in this order: runs of neighbours as slices, joined."""

    def __init__(self, axis: int, positions: Sequence[int]) -> None:
        super().__init__()
        self.axis, self.runs = axis, list(runs(positions))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[…, n, …]`` to ``[…, len(positions), …]``."""
        before, whole = (slice(None),) * self.axis, (0, x.shape[self.axis])
        parts = [x if run == whole else x[(*before, slice(*run))] for run in self.runs]
        while len(parts) > 1:
            parts = [_joined(parts[i : i + MOST_JOINED], self.axis) for i in range(0, len(parts), MOST_JOINED)]
        return parts[0]


def runs(positions: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield start and end of each stretch of positions that follow one another: 1, 0, 1, 2 is (1, 2), (0, 3)."""
    start = 0
    for i in range(1, len(positions) + 1):
        if i == len(positions) or positions[i] != positions[i - 1] + 1:
            yield positions[start], positions[i - 1] + 1
            start = i


def _joined(parts: list[torch.Tensor], axis: int) -> torch.Tensor:
    return torch.cat(parts, axis) if len(parts) > 1 else parts[0]


def picks(chosen: Sequence[tuple[int, list[int]]]) -> nn.Module | None:
    """Return one pick after the other; None where one is of the batch, or of too many pieces."""
    if any(axis == 0 or len(list(runs(positions))) > MOST_RUNS for axis, positions in chosen):
        return None
    units = [Pick(axis, positions) for axis, positions in chosen]
    return units[0] if len(units) == 1 else nn.Sequential(*units)


def picks_per_axis(source: Any, widths: Any, positions: Callable[[int, int, int], list[int]]) -> nn.Module | None:
    """Return one pick for each padded axis, the last axis first, as widths are given."""
    shape = shape_of(source)
    chosen = []
    for i in range(len(widths) // 2):
        axis = len(shape) - 1 - i
        before, after = widths[2 * i : 2 * i + 2]
        if (before, after) != (0, 0):
            chosen.append((axis, positions(shape[axis], before, after)))
    return picks(chosen)


def cropped(side: int, before: int, after: int) -> list[int]:
    """Return the positions that are left by widths that are not positive."""
    return list(range(-before, side + after))
