"""Compound scaling: the grid of §3.3, and what its points cost."""

import math
import subprocess
import sys

import pytest

from pipeline import zoo
from pipeline.errors import BadInput
from pipeline.zoo.complexity.compound_scaling import PUBLISHED, Scaling, cost, feasible


def test_the_published_constants_are_feasible() -> None:
    assert Scaling(1.2, 1.1, 1.15) == PUBLISHED
    assert PUBLISHED in feasible()
    assert PUBLISHED not in feasible(tolerance=0.07)
    assert math.isclose(PUBLISHED.growth, 1.2 * 1.1**2 * 1.15**2)


@pytest.mark.parametrize(("step", "tolerance"), [(0.05, 0.1), (0.1, 0.1), (0.05, 0.02), (0.3, 0.5), (1.0, 0.0)])
def test_the_grid_by_brute_force(step: float, tolerance: float) -> None:
    """A far larger grid in whole steps holds no other point; the nearest to 2 come first."""
    sides = [1 + index * step for index in range(round(2.5 / step) + 1)]
    expected = {
        (round(a, 9), round(b, 9), round(c, 9))
        for a in sides
        for b in sides
        for c in sides
        if abs(a * b * b * c * c - 2) <= tolerance + 1e-12
    }
    found = feasible(step, tolerance)
    assert {(p.depth, p.width, p.resolution) for p in found} == expected
    assert len(found) == len(expected)
    misses = [abs(p.growth - 2) for p in found]
    assert misses == pytest.approx(sorted(misses), abs=1e-8)


def test_doubling_depth_is_always_exact() -> None:
    assert feasible(1.0, 0.0) == [Scaling(2.0, 1.0, 1.0)]


@pytest.mark.parametrize(("step", "tolerance"), [(0.0, 0.1), (-1, 0.1), (1e-9, 0.1), (2, 0.1), (0.05, -1), (0.05, 2)])
def test_what_makes_no_grid_is_refused(step: float, tolerance: float) -> None:
    with pytest.raises(BadInput, match="allowed 0"):
        feasible(step, tolerance)
    with pytest.raises(BadInput, match="Grid step is nan"):
        feasible(math.nan)


def test_coefficients_grow_as_powers() -> None:
    grown = PUBLISHED.at(2)
    assert (grown.depth, grown.width, grown.resolution) == pytest.approx((1.44, 1.21, 1.3225))
    assert math.isclose(grown.growth, PUBLISHED.growth**2)
    assert PUBLISHED.at(0) == Scaling(1.0, 1.0, 1.0)


def test_what_a_point_costs() -> None:
    """φ = 0 is B0. At φ = 1 the published point costs 2.57 times as much, not 1.92: units are whole, and rounded up."""
    assert cost(PUBLISHED, phi=0).params == 5_288_548
    base, grown = cost(PUBLISHED, phi=0).mult_adds, cost(PUBLISHED)
    assert round(grown.mult_adds / base, 2) == 2.57
    assert grown.params == zoo.get("efficientnet_b2").figures[0].params  # B2's table entry has the same 1.1 and 1.2
    with pytest.raises(BadInput, match="Option `(depth|width)` is"):
        cost(PUBLISHED, phi=20)


def test_the_search_needs_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from pipeline.zoo.complexity.compound_scaling import feasible\n"
        "print(len(feasible()))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) == len(feasible())
