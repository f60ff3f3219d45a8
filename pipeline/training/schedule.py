"""The learning rate as a function of the step: nothing to save, nothing to restore."""

from __future__ import annotations

import math

from pipeline.training.settings import Schedule

WARM_UP = 0.3
"""Share of the steps in which one-cycle rises."""

START, END = 1 / 25, 1 / 250_000
"""First and last learning rate of one-cycle, as shares of the highest."""


def learning_rate(schedule: Schedule, step: int, steps: int, highest: float) -> float:
    """The learning rate of step 0 ≤ ``step`` < ``steps``.

    ``cosine``: from the highest to 0 along half a cosine (Loshchilov and Hutter, "SGDR", 2017, eq. 5, no restart).
    ``onecycle``: up from 1/25 and down to 1/250,000 of the highest, both along half a cosine (Smith and Topin,
    "Super-Convergence", 2018). Deviation: momentum stays constant.
    """
    if schedule == "cosine":
        return _half_cosine(highest, 0.0, step / steps)
    top = WARM_UP * steps - 1
    if step <= top:
        return _half_cosine(highest * START, highest, step / top)
    return _half_cosine(highest, highest * END, (step - top) / (steps - 1 - top)) if steps > 1 else highest


def _half_cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
