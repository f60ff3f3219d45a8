"""Tango's interval against published examples and against brute force; McNemar, agreement, images to decide."""

import itertools
import math
import random

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import binomtest, multinomial, norm

from pipeline.metrics.paired import (
    PairedTable,
    agreement,
    drop_interval,
    drop_p,
    holm,
    images_to_decide,
    loss_p,
    mcnemar_p,
    paired_table,
)


def table(n: int, lost: int, gained: int) -> PairedTable:
    return PairedTable(both=n - lost - gained, lost=lost, gained=gained, neither=0)


@pytest.mark.parametrize(
    ("counts", "confidence", "low", "high", "decimals"),
    [
        # Fagerland, Lydersen and Laake (2014), Stat. Med. 33:2850, table V: airway hyper-responsiveness before and
        # after stem cell transplantation (Bentur et al. 2009).
        (PairedTable(1, 1, 7, 12), 0.95, -0.517, -0.026, 3),
        # Complete response before and after consolidation therapy (Cavo et al. 2012), as the R package
        # contingencytables prints and tests it.
        (PairedTable(59, 6, 16, 80), 0.95, -0.1240, -0.0054, 4),
        # Outputs of R's PropCIs::scoreci.mp, whose b and c are our gained and lost.
        (table(618, 28, 25), 0.90, -0.0148, 0.0247, 4),
        (table(1000, 60, 20), 0.95, 0.0231, 0.0584, 4),
        (table(549, 48, 41), 0.90, -0.0157, 0.0414, 4),
    ],
)
def test_published_intervals(counts: PairedTable, confidence: float, low: float, high: float, decimals: int) -> None:
    interval = drop_interval(counts, confidence)
    assert (round(interval.low, decimals), round(interval.high, decimals)) == (low, high)


def test_the_example_of_tango_1998() -> None:
    """Section 6.1, soft contact lenses: 43 pairs effective in both, 1 only in the standard; 90 % lower end −0.096."""
    lenses = PairedTable(both=43, lost=0, gained=1, neither=0)
    assert round(drop_interval(lenses, 0.90).low, 3) == -0.096


@pytest.mark.parametrize(("lost", "points"), [(0, 0.85), (1, 1.25)])
def test_450_images(lost: int, points: float) -> None:
    assert round(100 * drop_interval(table(450, lost, 0)).high, 2) == points


def profile_score(counts: PairedTable, delta: float) -> float:
    """The score statistic with its nuisance parameter found by numeric maximisation of the likelihood."""
    concordant = counts.n - counts.lost - counts.gained

    def minus_log_likelihood(q: float) -> float:
        rates = (q + delta, q, 1 - 2 * q - delta)
        pairs = zip((counts.lost, counts.gained, concordant), rates, strict=True)
        return -sum(k * math.log(max(rate, 1e-300)) for k, rate in pairs if k)

    bounds = (max(0.0, -delta), (1 - delta) / 2)
    q = minimize_scalar(minus_log_likelihood, bounds=bounds, method="bounded", options={"xatol": 1e-12}).x
    variance = counts.n * (2 * q + delta * (1 - delta))
    return (counts.lost - counts.gained - counts.n * delta) / math.sqrt(variance)


def test_against_brute_force() -> None:
    """The interval is where the test does not reject: checked just inside and just outside both ends."""
    chance = random.Random(1998)
    z = norm.ppf(0.975)
    checked = 0
    for _ in range(150):
        n = chance.choice([1, 2, 5, 20, 450, 10_000])
        lost = chance.randint(0, min(n, 60))
        gained = chance.randint(0, min(n - lost, 60))
        counts = table(n, lost, gained)
        interval = drop_interval(counts)
        step = 1e-4 * (interval.high - interval.low)
        for end, outwards in ((interval.low, -step), (interval.high, step)):
            if abs(end) > 1 - 2 * step:
                continue
            assert abs(profile_score(counts, end - outwards)) < z < abs(profile_score(counts, end + outwards)), counts
            checked += 1
    assert checked > 200


def test_every_small_table_has_a_sane_interval() -> None:
    for n in range(1, 9):
        for lost, gained in itertools.product(range(n + 1), repeat=2):
            if lost + gained > n:
                continue
            counts = table(n, lost, gained)
            interval, mirrored = drop_interval(counts), drop_interval(table(n, gained, lost))
            assert -1 <= interval.low <= counts.drop <= interval.high <= 1, counts
            assert interval.low < interval.high, counts
            assert (interval.low, interval.high) == (-mirrored.high, -mirrored.low), counts
            wider = drop_interval(counts, 0.99)
            assert wider.low <= interval.low, counts
            assert interval.high <= wider.high, counts


def test_closed_forms_at_the_boundaries() -> None:
    z2 = norm.ppf(0.975) ** 2
    for n in (1, 2, 450, 10**6):
        assert drop_interval(table(n, 0, 0)).high == pytest.approx(z2 / (n + z2), rel=1e-9)
        all_lost = drop_interval(table(n, n, 0))
        assert (all_lost.low, all_lost.high) == (pytest.approx((n - z2) / (n + z2), abs=1e-9), 1.0)


def test_a_95_percent_interval_covers_95_percent() -> None:
    """Exact coverage over all tables of 40 images, for a typical loss of accuracy."""
    n, p_lost, p_gained = 40, 0.10, 0.05
    covered = 0.0
    for lost in range(n + 1):
        for gained in range(n + 1 - lost):
            chance = multinomial.pmf([lost, gained, n - lost - gained], n, [p_lost, p_gained, 1 - p_lost - p_gained])
            if chance < 1e-9:
                continue
            interval = drop_interval(table(n, lost, gained))
            covered += float(chance) if interval.low <= p_lost - p_gained <= interval.high else 0.0
    assert 0.93 < covered < 0.97


def test_counting() -> None:
    reference = np.array([True, True, True, False, False, True])
    file = np.array([True, False, False, True, False, True])
    counts = paired_table(reference, file)
    assert counts == PairedTable(both=2, lost=2, gained=1, neither=1)
    assert counts.n == 6
    assert counts.drop == pytest.approx(reference.mean() - file.mean())
    with pytest.raises(ValueError, match="same images"):
        paired_table(reference, file[:5])


def test_no_table_of_nothing() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        PairedTable(0, 0, 0, 0)
    with pytest.raises(ValueError, match="at least one image"):
        PairedTable(5, -1, 0, 0)
    with pytest.raises(ValueError, match="confidence"):
        drop_interval(table(10, 1, 0), 1.0)


def test_agreement_counts_equal_answers_right_or_wrong() -> None:
    assert agreement(np.array([0, 1, 2, 3]), np.array([0, 1, 3, 2])) == 0.5


def test_mcnemar() -> None:
    assert mcnemar_p(PairedTable(59, 6, 16, 80)) == pytest.approx(0.052479, abs=5e-7)  # contingencytables, Cavo 2012
    assert mcnemar_p(table(450, 0, 0)) == 1.0
    for lost, gained in ((1, 0), (7, 2), (30, 12), (200, 260)):
        assert mcnemar_p(table(1000, lost, gained)) == pytest.approx(binomtest(lost, lost + gained).pvalue)


@pytest.mark.parametrize(
    ("lost", "gained", "n", "limit"),
    [(1, 0, 450, 0.01), (2, 1, 100, 0.02), (12, 9, 1000, 0.005), (5, 0, 400, 0.01), (3, 3, 20, 0.02), (0, 1, 200, 0.0)],
)
def test_images_to_decide_is_where_the_interval_leaves_the_limit(lost: int, gained: int, n: int, limit: float) -> None:
    """The same table many times over: the first multiple whose interval does not contain the limit."""

    def decided(times: int) -> bool:
        interval = drop_interval(table(times * n, times * lost, times * gained))
        return interval.high <= limit or interval.low > limit

    first = next(times for times in range(1, 1000) if decided(times))
    assert first > 1
    needed = images_to_decide(table(n, lost, gained), limit)
    assert needed is not None
    assert (first - 1) * n < needed <= first * n


def test_no_number_where_the_drop_is_the_limit() -> None:
    assert images_to_decide(table(1000, 10, 0), 0.01) is None
    assert images_to_decide(table(1000, 7, 0), 0.007) is None
    assert images_to_decide(table(450, 0, 0), 0.0) is None
    assert images_to_decide(table(100_000, 1001, 0), 0.01) is None  # 10⁻⁵ from the limit: tens of millions of images


def test_no_discordant_pair_needs_381_images_for_one_point() -> None:
    """z²/(n + z²) ≤ 0.01 from n = 380.3 on."""
    assert images_to_decide(table(450, 0, 0), 0.01) == 381
    assert drop_interval(table(381, 0, 0)).high <= 0.01 < drop_interval(table(380, 0, 0)).high


def test_the_p_of_a_drop_is_the_interval_turned_round() -> None:
    """Below (1 − confidence) / 2 exactly where the interval lies above the limit."""
    for lost, gained, n in ((10, 2, 100), (60, 20, 1000), (3, 0, 50), (28, 25, 618)):
        counts = table(n, lost, gained)
        for limit in (-0.01, 0.0, 0.005, 0.02):
            for confidence in (0.5, 0.9, 0.95, 0.999):
                above = drop_interval(counts, confidence).low > limit
                assert (drop_p(counts, limit) < (1 - confidence) / 2) == above, (counts, limit, confidence)
    # At no difference, Tango's statistic is McNemar's without continuity correction.
    assert drop_p(table(1000, 60, 20), 0.0) == pytest.approx(norm.sf(40 / math.sqrt(80)))


def test_the_p_of_a_loss_is_the_binomial_tail() -> None:
    for lost, gained in ((0, 0), (1, 0), (7, 2), (2, 7), (30, 12), (0, 5), (60, 0)):
        expected = binomtest(lost, lost + gained, alternative="greater").pvalue if lost + gained else 1.0
        assert loss_p(table(1000, lost, gained)) == pytest.approx(expected, rel=1e-9)


def test_holm_by_hand() -> None:
    """Holm (1979): the smallest times n, the next times n − 1, …, never smaller than the one before."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.4]) == [0.4]
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_against_statsmodels() -> None:
    from statsmodels.stats.multitest import multipletests

    chance = np.random.default_rng(65)
    for count in (1, 2, 7, 300):
        p_values = (chance.random(count) ** 6).tolist()
        assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1].tolist(), rel=1e-12)
    assert holm([0.01] * 5) == pytest.approx([0.05] * 5)  # ties
