"""Which images calibrate: a class-balanced, seeded draw."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from calibration.errors import BadCalibration


def class_balanced(labels: Sequence[int], count: int, seed: int) -> list[int]:
    """Draw ``count`` distinct indices with class counts as equal as the data allows, in ascending order.

    Classes take turns, in an order drawn anew each round; a class that has run out is passed over.

    Raises:
        BadCalibration: fewer images than ``count``.
    """
    if count > len(labels):
        raise BadCalibration(
            f"Calibration asks for {count} images but the data has {len(labels)}: "
            "give more data, or a smaller --calibration-size."
        )
    rng = np.random.default_rng(seed)
    label_of = np.asarray(labels)
    queues = [list(rng.permutation(np.flatnonzero(label_of == label))) for label in np.unique(label_of)]
    chosen: list[int] = []
    while len(chosen) < count:
        waiting = [queue for queue in queues if queue]
        for turn in rng.permutation(len(waiting)):
            if len(chosen) < count:
                chosen.append(int(waiting[turn].pop()))
    return sorted(chosen)
