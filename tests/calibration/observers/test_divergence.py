"""The divergence of a histogram from its int8 form, against scipy on distributions spelt out bin by bin."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import entropy

from calibration.observers.divergence import Histogram
from calibration.ranges import QMAX, QMIN, Range

Floats = NDArray[np.float64]


def measured(centres: Floats, counts: Floats, *grids: tuple[float, int]) -> list[float]:
    scales, zero_points = (torch.tensor(column, dtype=torch.float64) for column in zip(*grids, strict=True))
    histogram = Histogram.of(torch.from_numpy(centres), torch.from_numpy(counts))
    return histogram.divergence(scales, zero_points).tolist()


def expected(centres: Floats, counts: Floats, scale: float, zero_point: int) -> float:
    """Both distributions as arrays over the bins within the grid."""
    level = np.round(centres / scale) + zero_point
    (within,) = np.nonzero((level >= QMIN) & (level <= QMAX) & (counts > 0))
    if not len(within):
        return np.inf
    p = counts[within].copy()
    p[0] += counts[: within[0]].sum()
    p[-1] += counts[within[-1] + 1 :].sum()
    q = [counts[within][level[within] == own].mean() for own in level[within]]
    return float(entropy(p, q))


@pytest.mark.parametrize("bins", [1, 2, 40, 300, 1500])
def test_it_is_scipys(bins: int) -> None:
    """With empty bins and levels, and with clipping at either end, at both, and of everything."""
    chance = np.random.default_rng(bins)
    for _ in range(20):
        width = chance.uniform(0.01, 2)
        centres = width * (np.arange(bins) + 0.5 - chance.integers(0, bins + 1))
        counts = chance.integers(0, 4, bins) * chance.choice([1.0, 1.0, 90.0], bins)
        counts[chance.integers(bins)] += 1
        ends = centres[0] * chance.uniform(0.02, 1.2, 6), centres[-1] * chance.uniform(0.02, 1.2, 6)
        grids = [Range(min(low, high), max(low, high)).qparams() for low, high in zip(*ends, strict=True)]
        wanted = [expected(centres, counts, *grid) for grid in grids]
        assert measured(centres, counts, *grids) == pytest.approx(wanted, abs=1e-9)


def test_by_hand() -> None:
    """Steps of 2 from 0: three values in one level, spread over two bins; two values clipped into the last bin."""
    centres, counts = np.array([1.25, 1.75, 508.0, 600.0]), np.array([1.0, 2.0, 4.0, 2.0])
    p, q = np.array([1, 2, 6]) / 9, np.array([1.5, 1.5, 4]) / 7
    (found,) = measured(centres, counts, (2.0, -128))
    assert found == pytest.approx(float((p * np.log(p / q)).sum()))


def test_nothing_is_lost_where_every_level_has_one_bin() -> None:
    counts = np.random.default_rng(0).integers(0, 9, 256).astype(float)
    assert measured(np.arange(256.0), counts, (1.0, -128)) == pytest.approx([0.0], abs=1e-12)


def test_a_grid_that_clips_everything_is_the_worst() -> None:
    centres, counts = np.array([50.0, 60.0]), np.array([1.0, 3.0])
    assert measured(centres, counts, (0.1, -128), (0.25, -128)) == [np.inf, pytest.approx(0.0)]
    assert measured(-centres, counts, (0.1, 127)) == [np.inf]
