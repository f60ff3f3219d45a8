"""A file against its own quantized graph."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.evaluation.evaluation import candidates, evaluate
from pipeline.evaluation.parity import drawn, drift, is_unlike


def test_the_draw_is_balanced_and_always_the_same() -> None:
    labels = [0] * 5000 + [1] * 800 + [2] * 100
    indices = drawn(labels)
    assert len(set(indices.tolist())) == 1000
    assert Counter(np.asarray(labels)[indices]) == {0: 450, 1: 450, 2: 100}
    assert (indices == drawn(labels)).all()
    assert drawn([0, 1, 1]).tolist() == [0, 1, 2]


def test_numbers_by_hand() -> None:
    simulated = np.array([[4, 0], [4, 0], [0, 4], [0, 4]], np.float32)
    logits = np.array([[4, 0], [0, 4], [0, 4], [0, 4]], np.float32)
    found = drift(simulated, logits, np.array([0, 0, 1, 0]))
    assert (found.images, found.agreement) == (4, 0.75)
    assert (found.simulated_top1, found.drop_points) == (0.75, 25.0)
    # Signal: ±2 around the mean in each of 8 numbers, 32. The file's deviations are 3, −1, −1, −1 in the first column,
    # the graph's 2, 2, −2, −2: differences 1, −3, 1, 1, squared 12, and again in the second column.
    assert found.sqnr_db == round(10 * np.log10(32 / 24), 2)
    assert is_unlike(found)


def test_equal_is_storable_and_not_unlike() -> None:
    logits = np.random.default_rng(0).random((10, 3)).astype(np.float32)
    found = drift(logits, logits, np.zeros(10, np.int64))
    assert (found.sqnr_db, found.agreement, found.drop_points) == (200.0, 1.0, 0.0)
    assert not is_unlike(found)


def test_only_int8_files_have_a_graph_of_their_own(
    laboratory: Any, fake_files: Callable[..., Any], tmp_path: Path
) -> None:
    fakes = fake_files(laboratory.images, "0" * 64)
    files = [
        fakes.write(tmp_path / "q.fake", laboratory.answers(3)),
        fakes.write(tmp_path / "f.fake", laboratory.answers(), precision="fp32"),
        fakes.write(tmp_path / "same.fake", laboratory.answers()),
    ]
    asked = []

    def simulate(pictures: Any, done: Any) -> Any:
        asked.append(len(pictures))
        done(len(pictures))
        return laboratory.answers()

    result = evaluate(candidates(files), laboratory.images, None, threads=1, simulate=simulate)
    lossy, fp32, same = (file.drift for file in result.files)
    assert asked == [120]  # once for all files
    assert fp32 is None
    assert lossy is not None
    assert (lossy.images, lossy.agreement, lossy.drop_points) == (120, 117 / 120, pytest.approx(2.5))
    assert lossy.simulated_top1 == len(laboratory.right) / 120
    assert same is not None
    assert same.sqnr_db == 200.0
