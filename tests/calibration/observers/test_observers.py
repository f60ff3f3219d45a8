"""Each observer against numpy on the values themselves."""

from typing import get_args

import numpy as np
import pytest
import torch

from calibration.errors import BadCalibration
from calibration.observers.observers import RangeObserver, make_observer
from calibration.ranges import QMAX, QMIN, Range
from calibration.recipe import Observer, Recipe

OBSERVERS = get_args(Observer)


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


# --- entropy ----------------------------------------------------------------------------------------------------------

ENTROPY, MSE = Recipe(observer="entropy"), Recipe(observer="mse")


def normal(count: int = 200_000, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(seed))


def with_outliers(values: torch.Tensor, *outliers: float) -> torch.Tensor:
    """Each in one of ten thousand places."""
    spoilt = values.clone()
    for i, outlier in enumerate(outliers):
        spoilt[i::10_000] = outlier
    return spoilt


@pytest.mark.parametrize("relu", [False, True])
def test_entropy_keeps_all_of_a_uniform_tensor(relu: bool) -> None:
    values = torch.rand(100_000, generator=torch.Generator().manual_seed(0)) * 8 - (0 if relu else 4)
    assert observed(ENTROPY, *values.split(25_000)).range() == observed(Recipe(observer="minmax"), values).range()


@pytest.mark.parametrize("outliers", [(50.0,), (-50.0,), (50.0, -40.0)])
def test_entropy_clips_what_is_rare_and_far(outliers: tuple[float, ...]) -> None:
    clean = observed(MSE, normal()).range()
    interval = observed(ENTROPY, *with_outliers(normal(), *outliers).split(50_000)).range()
    assert 0.75 * clean.high < interval.high < 1.75 * clean.high
    assert 0.75 * clean.low > interval.low > 1.75 * clean.low


@pytest.mark.parametrize("name", ["normal", "laplace", "relu", "squared"])
def test_entropy_is_near_mse_where_tails_are_ordinary(name: str) -> None:
    values = {
        "normal": normal(),
        "laplace": normal().sign() * normal(seed=1).pow(2).add(normal(seed=2).pow(2)),
        "relu": normal().relu(),
        "squared": normal().pow(2),
    }[name]
    by_entropy, by_mse = (observed(recipe, *values.split(50_000)).range() for recipe in (ENTROPY, MSE))
    assert 0.6 * by_mse.high < by_entropy.high < 1.3 * by_mse.high
    assert 0.6 * by_mse.low >= by_entropy.low >= 1.3 * by_mse.low
    assert (by_entropy.low == 0.0) == (by_mse.low == 0.0)


def test_entropy_does_not_look_at_what_a_relu_made_zero() -> None:
    values = normal().abs()
    sparse = torch.cat([torch.zeros(10_000_000), values])
    assert observed(ENTROPY, *sparse.split(3_000_000)).range() == observed(ENTROPY, values).range()


def test_entropy_of_a_sparse_relu_output_with_outliers() -> None:
    """2.3 % of the values are above zero."""
    values = (normal(400_000) - 2).relu()
    clean, spoilt = (observed(ENTROPY, v).range() for v in (values, torch.cat([values, torch.full((4,), 20.0)])))
    assert clean.low == spoilt.low == 0.0
    assert 0.8 * float(values.max()) < clean.high <= float(values.max())
    assert spoilt.high < 2.5 * clean.high


def test_entropy_keeps_the_ceiling_of_a_relu6() -> None:
    assert observed(ENTROPY, (normal() * 4).clamp(0, 6)).range() == Range(0.0, 6.0)


@pytest.mark.parametrize("values", [[3.0] * 9, [-2.0], [0.0, 1.0], [-1.0, 1.0], [1e-12, -1e-12], [5.0, 5.0, 1e-3]])
def test_entropy_keeps_all_of_a_few_values(values: list[float]) -> None:
    tensor = torch.tensor(values)
    assert observed(ENTROPY, tensor).range() == observed(Recipe(observer="minmax"), tensor).range()


@pytest.mark.parametrize("name", [name for name in OBSERVERS if name != "moving-average"])
def test_order_and_batches_change_nothing(name: str) -> None:
    """Not even that of values on the edge of a bin, among which powers of two are on that of a reach."""
    values = torch.cat([with_outliers(normal(), 20.0), torch.tensor([0.5, -1.0, 4.0, -4.0, 16.0])])
    once = observed(Recipe(observer=name), values).range()
    smallest_first = values[values.abs().argsort()]
    for batches in (values.flip(0).split(777), smallest_first.split(30_000), smallest_first.flip(0).split(30_000)):
        assert observed(Recipe(observer=name), *batches).range() == once


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
