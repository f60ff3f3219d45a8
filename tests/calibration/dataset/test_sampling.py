from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from calibration.dataset.sampling import ClassBalanced, FarthestFirst
from calibration.errors import BadCalibration


def class_balanced(labels: list[int], count: int, seed: int) -> list[int]:
    return ClassBalanced(labels, seed).take(count)


# --- class by class ---------------------------------------------------------------------------------------------------


def test_balanced_distinct_and_reproducible() -> None:
    labels = [i % 3 for i in range(300)]
    chosen = class_balanced(labels, 30, seed=7)
    assert chosen == class_balanced(labels, 30, seed=7)
    assert chosen == sorted(set(chosen))
    assert Counter(labels[i] for i in chosen) == {0: 10, 1: 10, 2: 10}


def test_another_seed_draws_others() -> None:
    labels = [i % 3 for i in range(300)]
    assert class_balanced(labels, 30, seed=1) != class_balanced(labels, 30, seed=2)


def test_a_rare_class_gives_all_it_has() -> None:
    labels = [0] * 100 + [1] * 2
    assert Counter(labels[i] for i in class_balanced(labels, 20, seed=0)) == {0: 18, 1: 2}


def test_uneven_count_differs_by_one_at_most() -> None:
    labels = [i % 10 for i in range(1000)]
    counts = Counter(labels[i] for i in class_balanced(labels, 128, seed=3))
    assert sum(counts.values()) == 128
    assert max(counts.values()) - min(counts.values()) <= 1


def test_every_image_can_be_drawn() -> None:
    assert class_balanced([0, 1, 1], 3, seed=0) == [0, 1, 2]


def test_too_few_images() -> None:
    with pytest.raises(BadCalibration, match="asks for 5 images but the data has 3"):
        class_balanced([0, 1, 1], 5, seed=0)


def test_a_picture_is_replaced_by_one_of_its_class_while_there_are_any() -> None:
    labels = [0] * 6 + [1] * 4
    draw = ClassBalanced(labels, seed=0)
    drawn = set(draw.take(6))
    out = max(drawn)
    assert labels[out] == 1
    last = draw.another(out)
    assert last is not None
    assert last not in drawn
    assert labels[last] == 1  # the fourth and last of them
    assert labels[draw.another(last) or 0] == 0


def test_among_equally_frequent_classes_its_own_comes() -> None:
    labels = [0] * 10 + [1] * 10
    for seed in range(10):
        draw = ClassBalanced(labels, seed)
        drawn = draw.take(5)
        more = Counter(labels[i] for i in drawn).most_common(1)[0][0]
        following = draw.another(next(i for i in drawn if labels[i] == more))
        assert following is not None
        assert labels[following] == more


def test_replacements_keep_the_classes_as_equal_as_they_can_be() -> None:
    labels = [0] * 4 + [1] * 20 + [2] * 20
    draw = ClassBalanced(labels, seed=5)
    drawn = set(draw.take(12))
    for out in [i for i in drawn if labels[i] == 0]:  # its class has no more
        drawn.remove(out)
        following = draw.another(out)
        assert following is not None
        assert following not in drawn
        drawn.add(following)
    assert Counter(labels[i] for i in drawn) == {1: 6, 2: 6}


def test_replacements_end() -> None:
    draw = ClassBalanced([0, 0, 1], seed=0)
    (first,) = draw.take(1)
    second = draw.another(first)
    assert second is not None
    third = draw.another(second)
    assert third is not None
    assert {first, second, third} == {0, 1, 2}
    assert draw.another(third) is None


# --- k-centre ---------------------------------------------------------------------------------------------------------


def points(count: int, seed: int, dimensions: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, dimensions)).astype(np.float32)


def radius(distances: np.ndarray, centres: tuple[int, ...] | list[int]) -> float:
    """How far the farthest point is from its nearest centre."""
    return float(distances[:, list(centres)].min(1).max())


@pytest.mark.parametrize("seed", range(8))
def test_at_most_twice_the_best_radius(seed: int) -> None:
    """Against every choice of so many points."""
    features = points(11, seed, dimensions=2)
    distances = cdist(features, features)
    for count in (1, 2, 3, 4):
        best = min(radius(distances, centres) for centres in combinations(range(11), count))
        got = radius(distances, FarthestFirst(range(11), features, seed).take(count))
        assert best <= got <= 2 * best + 1e-6


def test_each_next_picture_is_the_farthest() -> None:
    features = points(200, 0, dimensions=16) + 100  # far from the origin
    distances = cdist(features.astype(np.float64), features.astype(np.float64))
    draw = FarthestFirst(range(200), features, seed=4)
    order = draw.take(1)
    for _ in range(60):
        gaps = distances[:, order].min(1)
        following = draw.another(order[-1])
        assert following is not None
        assert gaps[following] == pytest.approx(gaps.max(), rel=1e-4)
        order.append(following)
    assert len(set(order)) == 61
    assert sorted(order[:20]) == FarthestFirst(range(200), features, seed=4).take(20)


def test_indices_are_those_of_the_pool() -> None:
    features = np.array([[0.0], [1.0], [50.0], [100.0]], np.float32)
    for seed in range(5):
        assert {7, 3} & set(FarthestFirst([7, 5, 9, 3], features, seed).take(2))
        assert FarthestFirst([7, 5, 9, 3], features, seed).take(4) == [3, 5, 7, 9]


def test_the_seed_draws_the_first() -> None:
    features = points(50, 1)
    assert len({FarthestFirst(range(50), features, seed).take(1)[0] for seed in range(20)}) > 5


def test_equal_pictures_are_drawn_once_each_and_end() -> None:
    draw = FarthestFirst(range(6), np.zeros((6, 4), np.float32), seed=0)
    assert draw.take(6) == list(range(6))
    assert draw.another(0) is None


def test_features_that_fit_nothing() -> None:
    with pytest.raises(BadCalibration, match="no finite numbers"):
        FarthestFirst(range(2), np.array([[0.0], [np.nan]], np.float32), seed=0)
    with pytest.raises(ValueError, match=r"\(2, 1\); expected \[3, D\]"):
        FarthestFirst(range(3), np.zeros((2, 1), np.float32), seed=0)
    with pytest.raises(BadCalibration, match="asks for 3 images but the data has 2"):
        FarthestFirst(range(2), np.zeros((2, 1), np.float32), seed=0).take(3)
