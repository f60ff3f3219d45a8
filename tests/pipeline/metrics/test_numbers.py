"""Numbers as tables show them."""

import pytest

from pipeline.metrics.numbers import decibels, drop_with_interval, percent, signed
from pipeline.metrics.sqnr import EQUAL_DB


@pytest.mark.parametrize(("fraction", "text"), [(None, "–"), (0.9187, "91.87"), (1.0, "100.00"), (0.0, "0.00")])
def test_percent(fraction: float | None, text: str) -> None:
    assert percent(fraction) == text


@pytest.mark.parametrize(("points", "text"), [(0.444, "+0.44"), (-0.28, "−0.28"), (-0.001, "0.00"), (0.0, "0.00")])
def test_signed(points: float, text: str) -> None:
    assert signed(points) == text


def test_a_drop_with_its_interval() -> None:
    assert drop_with_interval(0.44, (-0.28, 1.25)) == "+0.44 [−0.28, +1.25]"


@pytest.mark.parametrize(("value", "text"), [(None, "–"), (47.84, "47.8"), (EQUAL_DB, "equal")])
def test_decibels(value: float | None, text: str) -> None:
    assert decibels(value) == text
