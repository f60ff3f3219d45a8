"""Spending precision: the fewest layers in float with which the int8 files should pass the gate.

Ranking and trials use one set of pictures; what the search arrives at is judged on another, once. A trial is the
simulation of the files, which they equal to the bit but for the order in which float layers add.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from calibration.algorithms.repairs import with_values
from calibration.quantize import quantize
from calibration.simulate import Simulator
from edge_apps import progress
from edge_apps.chatter import hushed
from edge_apps.runtime.device import usable_cores
from edge_apps.runtime.search_record import SearchFound, Trial
from pipeline.evaluation.inference import run_graph
from pipeline.gating.judge import GatePolicy
from pipeline.metrics.paired import PairedTable, drop_interval, paired_table
from pipeline.quantization.calibrate import Calibration
from pipeline.quantization.captured import Captured
from pipeline.quantization.one_by_one import OneByOne, one_by_one

RANKED_ON = 512
"""Layers are ranked on so many of the ranking pictures; trials use all of them."""


def fewest(ranking: Sequence[str], holds: Callable[[Sequence[str]], bool]) -> tuple[str, ...] | None:
    """The shortest beginning of a ranking that holds, less what of it can be spared; None where not even all hold.

    The beginning is found by bisection. Then its layers are taken out one at a time, the least damaging first, and
    stay out where it holds without them. Found so, the set is small, not surely the smallest: there are 2ⁿ.
    """
    if holds(()):
        return ()
    if not holds(ranking):
        return None
    fails, enough = 0, len(ranking)
    while enough - fails > 1:
        middle = (fails + enough) // 2
        if holds(ranking[:middle]):
            enough = middle
        else:
            fails = middle
    chosen = list(ranking[:enough])
    for layer in ranking[: enough - 1][::-1]:  # the last one cannot go: without it the beginning failed
        without = [other for other in chosen if other != layer]
        if holds(without):
            chosen = without
    return tuple(chosen)


def expected(table: PairedTable, images: int) -> PairedTable:
    """The table that so many images would give at the rates seen; what was lost is rounded up, what was gained down."""
    if images == table.n:
        return table
    lost, gained = math.ceil(table.lost * images / table.n), math.floor(table.gained * images / table.n)
    both = min(round(table.both * images / table.n), images - lost - gained)
    return PairedTable(both, lost, gained, images - both - lost - gained)


@dataclass(frozen=True)
class Search:
    """What a search works on.

    captured: the network of the checkpoint, without the repairs of the calibration. pixels uint8 ``[N, H, W, 3]`` and
    labels int64 ``[N]`` are the ranking pictures; judged_on is the number of pictures that the gate will see.
    """

    captured: Captured
    calibration: Calibration
    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    policy: GatePolicy
    judged_on: int

    def find(self) -> SearchFound:
        """Rank the layers and find the fewest to keep in float.

        A trial holds where the upper end of the gate's interval is within the limit, at the rates that the ranking
        pictures show and with as many pictures as the gate will see.
        """
        ranking = self._rank()
        tried: dict[frozenset[str], Trial] = {}

        def holds(layers: Sequence[str]) -> bool:
            trial = tried[frozenset(layers)] = self.attempt(layers)
            return trial.expected_upper_points <= self.policy.max_drop

        layers = fewest(list(ranking), holds)
        return SearchFound(
            ranking=ranking,
            float_layers=layers,
            plain=tried[frozenset()],
            chosen=tried[frozenset(ranking if layers is None else layers)],
            trials=tuple(tried.values()),
        )

    def attempt(self, layers: Sequence[str]) -> Trial:
        """Simulate the files with these layers in float."""
        mixed = self.calibration.with_float(self.captured, layers)
        with hushed():
            quantized, _ = quantize(mixed.graph(self.captured), mixed.ranges, fold_weights=True)
        title = f"{_layers(len(layers))} in float"
        progress.note(title)
        with progress.track(title, len(self.pixels)) as task:
            said = run_graph(lambda: Simulator(quantized), self.pixels, usable_cores(), task.advance).argmax(1)
        table = paired_table(self._reference_right, said == self.labels)
        interval = drop_interval(table, self.policy.confidence)
        there = drop_interval(expected(table, self.judged_on), self.policy.confidence)
        return Trial(
            float_layers=len(layers),
            drop_points=100 * table.drop,
            interval_points=(100 * interval.low, 100 * interval.high),
            expected_upper_points=100 * there.high,
        )

    @cached_property
    def _reference_right(self) -> NDArray[np.bool_]:
        logits = self.captured.logits(self.captured.graph(), self.pixels)
        right: NDArray[np.bool_] = logits.argmax(1) == self.labels
        return right

    def _rank(self) -> dict[str, float]:
        pixels = self.pixels[:: math.ceil(len(self.pixels) / RANKED_ON)]
        graph, ranges = self.captured.graph(), self.calibration.ranges
        with hushed():
            quantized, _ = quantize(self.calibration.graph(self.captured), ranges, fold_weights=True)
        walk = OneByOne(with_values(graph, self.calibration.repairs.scaled), quantized, ranges)
        progress.note("Layers one by one")
        with progress.track("Layers one by one", len(pixels)) as task:
            return one_by_one(walk, pixels, task.advance).ranking()


def _layers(count: int) -> str:
    return "1 layer" if count == 1 else f"{count} layers"
