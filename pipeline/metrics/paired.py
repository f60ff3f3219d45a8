"""Two classifiers on the same images: how much worse is the second, and how sure is that?

The same images make the comparison sharp: only those that one gets right and the other wrong say anything. The
interval is Tango's score interval; it holds its level where few images disagree, which is the rule here and where
the textbook (Wald) interval shrinks to nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST_IMAGES = 10_000_000
"""A gate that needs more images than this is called undecidable: nobody has them."""


@dataclass(frozen=True)
class PairedTable:
    """How many of the same n images each of two classifiers gets right: the paired 2×2 table.

    ``both`` (n11), ``lost`` (n10: only the reference is right), ``gained`` (n01: only the file is right) and
    ``neither`` (n00).
    """

    both: int
    lost: int
    gained: int
    neither: int

    def __post_init__(self) -> None:
        if min(self.both, self.lost, self.gained, self.neither) < 0 or self.n < 1:
            raise ValueError(f"{self} is no paired table: counts of at least one image are needed")

    @property
    def n(self) -> int:
        """Number of images."""
        return self.both + self.lost + self.gained + self.neither

    @property
    def drop(self) -> float:
        """Accuracy lost, (n10 − n01) / n, in −1…1; negative where the file is better than the reference."""
        return (self.lost - self.gained) / self.n


@dataclass(frozen=True)
class Interval:
    """A confidence interval of a drop, as fractions in −1…1."""

    low: float
    high: float


def paired_table(reference_right: NDArray[np.bool_], file_right: NDArray[np.bool_]) -> PairedTable:
    """Count from bool ``[N]``: per image, whether the reference and the file were right."""
    if reference_right.shape != file_right.shape or reference_right.ndim != 1:
        raise ValueError(f"shapes {reference_right.shape} and {file_right.shape} are not of the same images")
    return PairedTable(
        both=int((reference_right & file_right).sum()),
        lost=int((reference_right & ~file_right).sum()),
        gained=int((~reference_right & file_right).sum()),
        neither=int((~reference_right & ~file_right).sum()),
    )


def agreement(reference_class: NDArray[np.int64], file_class: NDArray[np.int64]) -> float:
    """Share of images, int ``[N]`` of predicted classes, for which both say the same class, right or wrong."""
    return float((reference_class == file_class).mean())


def drop_interval(table: PairedTable, confidence: float = 0.95) -> Interval:
    """Tango's score interval of the drop.

    All differences δ that the score test does not reject: ``|T(δ)| ≤ z`` with
    ``T(δ) = (n10 − n01 − nδ) / √(n (2q + δ(1 − δ)))``, where q is the most likely P(only the file is right) given
    that the difference is δ. It stays within −1…1, contains the observed drop, and keeps a width above 0 even where
    no image disagrees: ±z² / (n + z²).

    Tango, T. (1998). Equivalence test and confidence interval for the difference in proportions for the
    paired-sample design. Statistics in Medicine 17, 891–908, equations 24–26. (Deviation: the paper's Δ is our −δ;
    the interval is the same.)
    """
    z = _z(confidence)
    return Interval(
        low=_lower_end(table.lost, table.gained, table.n, z),
        high=-_lower_end(table.gained, table.lost, table.n, z),  # the same question with the roles exchanged
    )


def mcnemar_p(table: PairedTable) -> float:
    """Two-sided exact p of "both are right equally often" (McNemar's test, binomial n10 of n10 + n01 at ½)."""
    from statsmodels.stats.contingency_tables import mcnemar

    return float(mcnemar([[table.both, table.lost], [table.gained, table.neither]], exact=True).pvalue)


def loss_p(table: PairedTable) -> float:
    """One-sided exact p of "the file is right at least as often": P(X ≥ n10) of X ~ binomial(n10 + n01, ½).

    McNemar's test for the one question that a per-class flag asks. 1 where no image disagrees.
    """
    from scipy.stats import binom

    return float(binom.sf(table.lost - 1, table.lost + table.gained, 0.5))


def drop_p(table: PairedTable, limit: float) -> float:
    """One-sided p of "the drop is at most ``limit``" (a fraction), by Tango's score test.

    1 − Φ(T(limit)) with the T of ``drop_interval``: below (1 − confidence) / 2 exactly where that interval lies above
    the limit.
    """
    from scipy.stats import norm

    return float(norm.sf(_score(table, limit)))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number: refusing all below a level errs at all no more often than that level.

    The smallest of n times n, the next times n − 1, and so on, none below the one before. Nothing is asked of how the
    tests depend on each other, which those of one network's files do. (statsmodels' ``multipletests`` gives the same
    and collects garbage each time, which takes longer than a gate.)

    Holm, S. (1979). A simple sequentially rejective multiple test procedure. Scandinavian Journal of Statistics 6,
    65–70.
    """
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p)
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return [float(value) for value in corrected]


def images_to_decide(table: PairedTable, limit: float, confidence: float = 0.95) -> int | None:
    """About how many images would put ``limit`` (a drop, as a fraction) outside the interval, at the rates seen.

    With the rates kept, q of ``drop_interval`` does not depend on n, so T grows as √n and the number is
    n (z / T(limit))². None where it is above ten million: the drop is, as far as these images can tell, the limit.
    """
    score = _score(table, limit)
    if score == 0:
        return None
    needed = table.n * (_z(confidence) / score) ** 2
    return max(1, math.ceil(needed)) if needed <= MOST_IMAGES else None


def _z(confidence: float) -> float:
    from scipy.stats import norm

    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; it must lie between 0 and 1")
    return float(norm.ppf((1 + confidence) / 2))


def _lower_end(lost: int, gained: int, n: int, z: float) -> float:
    """The δ below the observed difference with T(δ) = z; −1 where the difference itself is −1."""
    from scipy.optimize import brentq

    observed = (lost - gained) / n
    if observed == -1:
        return -1.0
    return float(brentq(_balance(lost, gained, n, z, observed), -1.0, observed, xtol=1e-15, rtol=1e-14))


def _balance(lost: int, gained: int, n: int, z: float, observed: float) -> Callable[[float], float]:
    """(a − b) / (a + b) with a = n (observed − δ) and b = z·sd(δ): zero where T = z, 1 at δ = −1, −1 at observed.

    T itself is infinite at −1, and 0/0 at the observed difference where no image disagrees or all do; this is
    neither.
    """

    def balance(delta: float) -> float:
        distance = n * (observed - delta)
        spread = z * math.sqrt(_variance(lost, gained, n, delta))
        return (distance - spread) / (distance + spread) if distance > 0 else -1.0

    return balance


def _variance(lost: int, gained: int, n: int, delta: float) -> float:
    """Variance of n10 − n01 under a true difference of ``delta``."""
    q = _only_file_right(lost, gained, n, delta)
    return max(0.0, n * (2 * q + delta * (1 - delta)))


def _only_file_right(lost: int, gained: int, n: int, delta: float) -> float:
    """The most likely P(only the file is right) where P(only the reference is right) = that + ``delta``.

    The larger root of 2n q² + B q + C = 0 (Tango 1998, equation 25), in the form that does not cancel.
    """
    b = (2 * n - lost + gained) * delta - (lost + gained)
    c = -gained * delta * (1 - delta)
    root = math.sqrt(max(0.0, b * b - 8 * n * c))
    if b <= 0:
        return (root - b) / (4 * n)
    return -2 * c / (root + b)


def _score(table: PairedTable, delta: float) -> float:
    """T(δ); 0 where the drop is δ."""
    distance = table.lost - table.gained - table.n * delta
    # A limit such as 0.007 has no exact binary form: a drop of 7 in 1,000 is that limit, not 10⁻¹⁸ away from it.
    if abs(distance) <= 1e-9 * table.n:
        return 0.0
    variance = _variance(table.lost, table.gained, table.n, delta)
    return distance / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, distance)
