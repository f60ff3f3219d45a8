"""The mergeable histogram, against numpy's percentiles of the samples themselves."""

import random
import zlib

import numpy as np
import pytest

from edge_apps.runtime.histogram import LONGEST, RELATIVE_ERROR, Histogram
from edge_apps.runtime.latency import summarize

PERCENT = (0, 1, 10, 50, 90, 95, 99, 99.9, 100)


def samples(kind: str, n: int = 20_000) -> np.ndarray:
    chance = np.random.default_rng(7)
    return {
        "uniform": lambda: chance.integers(0, 10**8, n),
        "log-uniform, 1 µs to 1000 s": lambda: np.exp(chance.uniform(np.log(1e3), np.log(1e12), n)).astype(np.int64),
        "two humps": lambda: np.concatenate([chance.normal(3e6, 1e5, n), chance.normal(9e7, 1e6, n // 50)]).astype(int),
        "nanoseconds": lambda: chance.integers(0, 300, n),
        "all the same": lambda: np.full(n, 4_321_987),
        "powers of two and their neighbours": lambda: np.array([2**k + d for k in range(2, 40) for d in (-1, 0, 1)]),
    }[kind]()


KINDS = [
    "uniform", "log-uniform, 1 µs to 1000 s", "two humps", "nanoseconds", "all the same",
    "powers of two and their neighbours",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_quantiles_are_within_the_bound_of_numpys(kind: str) -> None:
    values = samples(kind)
    histogram = Histogram(values)
    for percent in PERCENT:
        exact = np.percentile(values, percent, method="inverted_cdf")
        assert abs(histogram.quantile(percent) - exact) <= exact * RELATIVE_ERROR
    assert (histogram.n, histogram.sum) == (values.size, sum(values.tolist()))
    assert (histogram.min, histogram.max) == (values.min(), values.max())


def test_the_bound_is_better_than_one_percent() -> None:
    assert RELATIVE_ERROR < 0.01 / 2


def test_every_small_value_is_exact_and_every_bucket_holds_its_middle() -> None:
    for value in [*range(256), *(random.Random(1).randrange(256, LONGEST) for _ in range(500))]:
        histogram = Histogram([value])
        histogram.min, histogram.max = 0, LONGEST  # what the bucket alone says
        assert abs(histogram.quantile(50) - value) <= (0 if value < 256 else value * RELATIVE_ERROR)


@pytest.mark.parametrize("kind", KINDS)
def test_merged_is_the_same_as_counted_together(kind: str) -> None:
    values = samples(kind)
    merged = Histogram()
    for part in np.array_split(values, 7):
        merged.merge(Histogram.from_bytes(Histogram(part).to_bytes()))
    merged.merge(Histogram())
    assert merged.to_bytes() == Histogram(values).to_bytes()
    assert merged.quantile(99) == Histogram(values).quantile(99)


def test_the_summary_is_that_of_the_samples_within_the_bound() -> None:
    values = samples("two humps")
    told, exact = Histogram(values).summary(), summarize(values)
    assert (told.n, told.max) == (exact.n, exact.max)
    assert told.mean == pytest.approx(exact.mean, rel=1e-12)
    for name in ("p50", "p90", "p95", "p99"):
        assert getattr(told, name) == pytest.approx(getattr(exact, name), rel=RELATIVE_ERROR)


def test_what_is_out_of_range_is_counted() -> None:
    histogram = Histogram([-5, 3 * LONGEST, LONGEST])
    assert (histogram.n, histogram.min, histogram.max) == (3, 0, 3 * LONGEST)
    assert histogram.quantile(100) == pytest.approx(LONGEST, rel=RELATIVE_ERROR)


def test_nothing_has_no_quantile() -> None:
    with pytest.raises(ValueError, match="no values"):
        Histogram().quantile(50)
    with pytest.raises(ValueError, match="no values"):
        Histogram().summary()
    with pytest.raises(ValueError, match="no percentage"):
        Histogram([1]).quantile(101)
    assert Histogram.from_bytes(Histogram().to_bytes()).n == 0


def test_ten_seconds_of_a_camera_take_a_hundred_bytes_or_so() -> None:
    values = np.random.default_rng(3).normal(4e6, 1e5, 300).astype(np.int64)
    assert len(Histogram(values).to_bytes()) < 150


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\x02" + zlib.compress(b"\0\0\0"), b"\x01", b"\x01rubbish", b"\x01" + zlib.compress(b"\0\0"),
        b"\x01" + zlib.compress(b"\0\0\0\1"), b"\x01" + zlib.compress(b"\0\0\0\1\0"),
        b"\x01" + zlib.compress(b"\0\0\0\xff\xff\x7f\1"), b"\x01" + zlib.compress(b"\0\0\0\5\1\0\1"),
        b"\x01" + zlib.compress(b"\xff" * 50), b"\x01" + zlib.compress(b"\0\0\0\1\x80"),
        b"\x01" + zlib.compress(bytes(50_000_000)), b"\x01" + zlib.compress(b"\0\0\0") + b"more",
        b"\x01" + zlib.compress(b"\0\2\1\1\1"), b"\x01" + zlib.compress(b"\0\0\0\1" + b"\xff" * 12 + b"\1"),
    ],
)  # fmt: skip
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="histogram"):
        Histogram.from_bytes(data)


def test_every_flipped_or_missing_byte_is_refused_or_still_a_histogram() -> None:
    whole = Histogram(samples("two humps")).to_bytes()
    for position in range(len(whole)):
        for data in (whole[:position], whole[:position] + bytes([whole[position] ^ 0x55]) + whole[position + 1 :]):
            with pytest.raises(ValueError, match="histogram"):
                Histogram.from_bytes(data)
