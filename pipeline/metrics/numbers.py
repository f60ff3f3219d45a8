"""Numbers as people read them in tables."""

from __future__ import annotations

from pipeline.metrics.sqnr import EQUAL_DB


def percent(fraction: float | None) -> str:
    """0.9187 as ``91.87``; a dash for what was not measured."""
    return "–" if fraction is None else f"{100 * fraction:.2f}"


def signed(points: float) -> str:
    """Two decimals with their sign, a true minus, and no sign for what rounds to zero."""
    text = f"{points:+.2f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def drop_with_interval(points: float, interval: tuple[float, float]) -> str:
    """As ``+0.44 [−0.28, +1.25]``."""
    return f"{signed(points)} [{signed(interval[0])}, {signed(interval[1])}]"


def decibels(sqnr_db: float | None) -> str:
    """``47.8``, or ``equal``; a dash for what was not measured."""
    return "–" if sqnr_db is None else "equal" if sqnr_db >= EQUAL_DB else f"{sqnr_db:.1f}"
