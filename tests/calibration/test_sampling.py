from collections import Counter

import pytest

from calibration.errors import BadCalibration
from calibration.sampling import class_balanced


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
