"""Work side by side in threads, given up at the first error."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")


def in_threads(work: Callable[[S], T], items: Sequence[S], threads: int | None = None) -> Iterator[T]:
    """Yield ``work(item)`` of every item, in order, computed by so many threads; None: one for each core.

    At the first error, at Ctrl-C, or where the caller stops listening, work that has not begun is dropped.
    """
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        try:
            yield from pool.map(work, items)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
