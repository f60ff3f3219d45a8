"""Each observer against numpy on the values themselves."""

import numpy as np
import pytest
import torch

from calibration.errors import BadCalibration
from calibration.observers import RangeObserver, make_observer
from calibration.ranges import QMAX, QMIN, Range
from calibration.recipe import Recipe

OBSERVERS = ("minmax", "moving-average", "percentile", "mse")


def observed(recipe: Recipe, *batches: torch.Tensor) -> RangeObserver:
    observer = make_observer(recipe, "k")
    for batch in batches:
        assert observer(batch) is batch
    return observer


def squared_error(values: np.ndarray, interval: Range) -> float:
    scale, zero_point = interval.qparams()
    quantized = np.clip(np.round(values / scale) + zero_point, QMIN, QMAX)
    return float((((quantized - zero_point) * scale - values) ** 2).mean())


def test_minmax_is_numpy_minmax() -> None:
    batches = [torch.randn(100, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    values = torch.cat(batches).numpy()
    assert observed(Recipe(observer="minmax"), *batches).range() == Range(float(values.min()), float(values.max()))


def test_moving_average_by_hand() -> None:
    recipe = Recipe(observer="moving-average", averaging=0.25)
    interval = observed(recipe, torch.tensor([-1.0, 4.0]), torch.tensor([-3.0, 8.0])).range()
    assert interval == Range(-1.5, 5.0)


def test_percentile_against_numpy() -> None:
    values = torch.randn(200_000, generator=torch.Generator().manual_seed(0))
    interval = observed(Recipe(observer="percentile", percentile=99.0), *values.split(50_000)).range()
    low, high = np.percentile(values.numpy(), [0.5, 99.5])
    assert interval.low == pytest.approx(low, abs=0.02)
    assert interval.high == pytest.approx(high, abs=0.02)


def test_percentile_100_is_minmax_to_a_bin() -> None:
    values = torch.randn(5_000, generator=torch.Generator().manual_seed(0))
    interval = observed(Recipe(observer="percentile", percentile=100.0), values).range()
    assert interval.low == pytest.approx(float(values.min()), abs=0.01)
    assert interval.high == pytest.approx(float(values.max()), abs=0.01)


@pytest.mark.parametrize("relu", [False, True])
def test_mse_is_as_good_as_a_brute_force_search(relu: bool) -> None:
    values = torch.distributions.StudentT(3.0).sample((40_000,)) if not relu else torch.randn(40_000).pow(2)
    interval = observed(Recipe(observer="mse"), *values.split(10_000)).range()
    array = values.double().numpy()
    low, high = float(array.min()), float(array.max())
    shares = np.linspace(0.1, 1, 40)
    best = min(squared_error(array, Range(low * a, high * b)) for a in shares for b in ([*shares] if high else [1]))
    assert squared_error(array, interval) <= 1.05 * best
    assert squared_error(array, interval) <= squared_error(array, Range(low, high))


def test_histogram_survives_growing_batches_exactly() -> None:
    small, large = torch.tensor([0.1, -0.2, 0.3]), torch.tensor([5.0, -40.0])
    observer = observed(Recipe(observer="percentile", percentile=100.0), small, large)
    assert float(observer.counts.sum()) == 5
    assert observer.reach >= 40.0
    assert observer.range().low == -40.0


@pytest.mark.parametrize("name", OBSERVERS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_no_observer_accepts_what_is_no_number(name: str, value: float) -> None:
    with pytest.raises(BadCalibration, match="NaN or infinite"):
        observed(Recipe(observer=name), torch.tensor([1.0, value]))


@pytest.mark.parametrize("name", OBSERVERS)
def test_a_tensor_of_zeros_has_a_range(name: str) -> None:
    scale, _ = observed(Recipe(observer=name), torch.zeros(16)).range().qparams()
    assert scale > 0


@pytest.mark.parametrize("name", OBSERVERS)
def test_range_contains_zero_and_lies_within_what_was_seen(name: str) -> None:
    values = torch.rand(1000, generator=torch.Generator().manual_seed(2)) * 3 + 1  # all above zero
    interval = observed(Recipe(observer=name), values).range()
    assert interval.low <= 0.0 <= interval.high <= float(values.max())


def test_a_histogram_counts_beyond_what_float32_can() -> None:
    """A wide early layer has more zeros than 2^24, where float32 stops counting."""
    observer = observed(Recipe(observer="percentile"), torch.cat([torch.zeros(40_000_000), torch.ones(1)]))
    assert float(observer.counts.sum()) == 40_000_001
