"""Calibrations judged on pictures that made none of them: their int8 networks, simulated, against the float one."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from calibration.quantize import quantize
from calibration.simulate import Simulator
from edge_apps.chatter import hushed
from edge_apps.images import ImageSet
from edge_apps.runtime.device import usable_cores
from pipeline.data.reading import Pixels
from pipeline.errors import BadInput
from pipeline.evaluation.inference import Done, run_graph, run_network
from pipeline.metrics.paired import agreement, drop_interval, paired_table
from pipeline.metrics.sqnr import sqnr_db, storable
from pipeline.quantization.calibrate import Calibration
from pipeline.quantization.captured import Captured

IMAGES = 1000
"""Pictures that are judged on unless another number is asked for; simulation is slow."""


def check_count(judged_on: ImageSet, count: int | None) -> None:
    """``BadInput`` where fewer pictures can be judged on than a user asked for; None: they asked for no number."""
    if count is not None and len(judged_on) < count:
        raise BadInput(
            f"{len(judged_on)} different pictures of '{judged_on.name}' can be judged on; `images` is {count}. Give a "
            "smaller number, or other pictures with `test`."
        )


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """An int8 network, simulated as its files compute it, on the same pictures as the float network.

    sqnr_db: of the logits (``metrics.sqnr``). top1 and agreement are fractions; drop_points is the top-1 that was
    lost, with its 95 % interval (``metrics.paired``).
    """

    sqnr_db: float
    top1: float
    agreement: float
    drop_points: float
    interval_points: tuple[float, float]


class Judge:
    """Labelled pictures, and what the float network says of them.

    ``done`` is told how many pictures more are finished. float_top1: a fraction.

    Raises:
        EdgeError: the float network answers with NaN or infinity.
    """

    def __init__(self, captured: Captured, pictures: Pixels, done: Done) -> None:
        checkpoint = captured.checkpoint
        self._captured = captured
        self._pictures = pictures
        self._done = done
        self._float = run_network(
            checkpoint.network(), checkpoint.preprocess, pictures.images, usable_cores(), done
        ).logits
        self.float_top1 = self._top1(self._float)

    def judge(self, calibration: Calibration) -> Judged:
        """Simulate the int8 network of a calibration."""
        with hushed():
            graph, _ = quantize(calibration.graph(self._captured), calibration.ranges, fold_weights=True)
        logits = run_graph(lambda: Simulator(graph), self._pictures.images, usable_cores(), self._done)
        said, float_said, labels = logits.argmax(axis=1), self._float.argmax(axis=1), self._pictures.labels
        table = paired_table(float_said == labels, said == labels)
        interval = drop_interval(table)
        return Judged(
            sqnr_db=storable(sqnr_db(self._float, logits)),
            top1=self._top1(logits),
            agreement=agreement(float_said, said),
            drop_points=100 * table.drop,
            interval_points=(100 * interval.low, 100 * interval.high),
        )

    def _top1(self, logits: NDArray[np.float32]) -> float:
        return float((logits.argmax(axis=1) == self._pictures.labels).mean())
