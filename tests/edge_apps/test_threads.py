"""Work side by side: in order, and given up at the first error."""

import threading

import pytest

from edge_apps.threads import in_threads


@pytest.mark.parametrize("threads", [None, 1, 3])
def test_results_come_in_order(threads: int | None) -> None:
    assert list(in_threads(lambda number: number**2, range(50), threads)) == [number**2 for number in range(50)]
    assert list(in_threads(str, [], threads)) == []


def test_work_that_has_not_begun_is_dropped_at_an_error() -> None:
    begun = []

    def work(number: int) -> int:
        begun.append(number)
        if number == 3:
            raise ValueError("three")
        return number

    with pytest.raises(ValueError, match="three"):
        list(in_threads(work, range(10_000), 1))
    assert len(begun) < 10_000


def test_work_is_dropped_where_nobody_listens_any_more() -> None:
    released, begun = threading.Event(), []

    def work(number: int) -> int:
        begun.append(number)
        assert number == 0 or released.wait(10)
        return number

    results = in_threads(work, range(1000), 2)
    assert next(results) == 0
    threading.Timer(0.05, released.set).start()
    results.close()
    assert len(begun) < 1000
