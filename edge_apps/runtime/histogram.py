"""A histogram of times whose buckets widen with the value: small, mergeable, and wrong by a known amount at most.

Buckets are those of HdrHistogram (Tene, 2012) with seven significant bits: below 128 ns every value has its own; above,
each power of two is cut into 128 of equal width. A bucket is thus at most 1/128 of its values wide, and its middle at
most 1/256 (0.39 %) away from any of them. Histograms can be added to each other; percentiles cannot.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from edge_apps.runtime.latency import Summary

BITS = 7
PER_OCTAVE = 1 << BITS

RELATIVE_ERROR = 1 / (2 * PER_OCTAVE)
"""Of a quantile, at most: half a bucket."""

LONGEST = 1_000 * 10**9
"""Nanoseconds; what took longer counts in the last bucket (``max`` and ``sum`` stay exact)."""

FORMAT = 1
"""First byte of ``to_bytes``."""

_LARGEST_BYTES = 1 << 20
"""Nothing that ``to_bytes`` wrote is longer when unpacked; more is no histogram but an attack."""


class Histogram:
    """Counts of whole nanoseconds; ``n``, ``sum``, ``min`` and ``max`` are exact."""

    def __init__(self, nanoseconds: Sequence[int] | NDArray[np.int64] = ()) -> None:
        self._counts = np.zeros(_bucket(np.array([LONGEST]))[0] + 1, np.int64)
        self.n = self.sum = self.min = self.max = 0
        self.add(nanoseconds)

    def add(self, nanoseconds: Sequence[int] | NDArray[np.int64]) -> None:
        """Count many values; a negative one (a clock that is no clock) counts as 0."""
        values = np.maximum(np.asarray(nanoseconds, np.int64), 0)
        if not values.size:
            return
        self._counts += np.bincount(_bucket(np.minimum(values, LONGEST)), minlength=self._counts.size)
        self._extend(values.size, int(values.sum()), int(values.min()), int(values.max()))

    def merge(self, other: Histogram) -> None:
        """Count what ``other`` has counted, too."""
        if other.n:
            self._counts += other._counts
            self._extend(other.n, other.sum, other.min, other.max)

    def quantile(self, percent: float) -> float:
        """Nanoseconds that ``percent`` % of the values do not exceed (nearest rank), within ``RELATIVE_ERROR``.

        Raises:
            ValueError: there is no value, or no such percentage.
        """
        if not self.n:
            raise ValueError("no values to take a quantile of")
        if not 0 <= percent <= 100:
            raise ValueError(f"{percent} is no percentage")
        # The products are rounded as numpy rounds them in 'inverted_cdf', so that both choose the same rank.
        rank = min(max(int(np.ceil(self.n * np.float64(percent / 100))), 1), self.n)
        bucket = int(np.searchsorted(np.cumsum(self._counts), rank))
        return min(max(_middle(bucket), self.min), self.max)

    def summary(self) -> Summary:
        """The figures of ``latency.summarize``, milliseconds; mean and maximum exact.

        Raises:
            ValueError: there is no value.
        """
        p50, p90, p95, p99 = (self.quantile(percent) / 1e6 for percent in (50, 90, 95, 99))
        return Summary(n=self.n, mean=self.sum / self.n / 1e6, p50=p50, p90=p90, p95=p95, p99=p99, max=self.max / 1e6)

    def to_bytes(self) -> bytes:
        """One format byte, then zlib over LEB128 numbers: sum, min, max, then gap and count of each filled bucket."""
        filled = np.flatnonzero(self._counts)
        gaps = np.diff(filled, prepend=0)
        numbers = [self.sum, self.min, self.max]
        for gap, count in zip(gaps.tolist(), self._counts[filled].tolist(), strict=True):
            numbers += [gap, count]
        return bytes([FORMAT]) + zlib.compress(b"".join(_leb128(number) for number in numbers), 9)

    @classmethod
    def from_bytes(cls, data: bytes) -> Histogram:
        """What ``to_bytes`` wrote.

        Raises:
            ValueError: it wrote no such thing.
        """
        if data[:1] != bytes([FORMAT]):
            raise ValueError(f"a histogram of format {data[0] if data else 'none'}; {FORMAT} is known")
        numbers = list(_numbers(_unpacked(data[1:])))
        if len(numbers) < 3 or len(numbers) % 2 == 0:
            raise ValueError("a histogram that is cut off")
        histogram = cls()
        filled, counts = np.cumsum(numbers[3::2], dtype=object), numbers[4::2]
        if counts and not filled[-1] < histogram._counts.size:
            raise ValueError(f"a histogram with a bucket {filled[-1]}; {histogram._counts.size - 1} is the last")
        if len(set(filled)) != len(counts) or not all(counts) or sum(counts) >= 1 << 62:
            raise ValueError("a histogram whose counts make no sense")
        if max(numbers[:3]) >= 1 << 100 or numbers[1] > numbers[2]:
            raise ValueError("a histogram whose limits make no sense")
        histogram._counts[filled.astype(np.int64)] = counts
        if counts:
            histogram._extend(sum(counts), *numbers[:3])
        return histogram

    def _extend(self, n: int, total: int, low: int, high: int) -> None:
        self.min = min(self.min, low) if self.n else low
        self.max = max(self.max, high)
        self.n += n
        self.sum += total


def _bucket(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of each value its bucket: ``shift`` octaves above the exact ones, then the seven bits after the leading one."""
    shift = np.maximum(np.frexp(values.astype(np.float64))[1] - (BITS + 1), 0).astype(np.int64)
    buckets: NDArray[np.int64] = shift * PER_OCTAVE + (values >> shift)
    return buckets


def _middle(bucket: int) -> float:
    shift = max(bucket // PER_OCTAVE - 1, 0)
    return ((bucket - shift * PER_OCTAVE) << shift) + ((1 << shift) - 1) / 2


def _leb128(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _numbers(data: bytes) -> Iterator[int]:
    number = shift = 0
    for byte in data:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            yield number
            number = shift = 0
        elif shift > 126:
            raise ValueError("a histogram with an endless number")
    if shift:
        raise ValueError("a histogram that is cut off")


def _unpacked(data: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        numbers = unpacker.decompress(data, _LARGEST_BYTES)
    except zlib.error as error:
        raise ValueError(f"a histogram that is damaged: {error}") from error
    if not unpacker.eof or unpacker.unused_data:
        raise ValueError("a histogram that is cut off, or followed by something else")
    return numbers
