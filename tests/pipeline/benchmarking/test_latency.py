"""Files that take turns; a runner that says how long it takes."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

from edge_apps.runtime import registry
from edge_apps.runtime.content import Content
from edge_apps.runtime.preprocess import Preprocess
from pipeline.benchmarking import latency
from pipeline.errors import BadInput


class Sleeper:
    """Takes as many milliseconds as its file's name says, and the first run of a turn ten more."""

    turns: ClassVar[list[str]] = []
    closed: ClassVar[list[str]] = []

    def __init__(self, content: Content, threads: int) -> None:
        self.name, self.threads = content.path.stem, threads
        self.manifest = SimpleNamespace(preprocess=Preprocess(height=4, width=6))

    def run(self, batch: np.ndarray) -> np.ndarray:
        assert (batch.shape, batch.dtype) == ((1, 4, 6, 3), np.uint8)
        extra = 0 if self.turns and self.turns[-1] == self.name else 10
        self.turns.append(self.name)
        time.sleep((int(self.name) + extra) / 1000)
        return np.zeros((1, 2), np.float32)

    def close(self) -> None:
        self.closed.append(self.name)


@pytest.fixture
def sleepers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Content]:
    registry.known_suffixes()  # the real ones first
    monkeypatch.setitem(registry._factories, ".sleep", Sleeper)  # type: ignore[arg-type]
    monkeypatch.setattr(Sleeper, "turns", [])
    monkeypatch.setattr(Sleeper, "closed", [])
    paths = [tmp_path / "2.sleep", tmp_path / "6.sleep"]
    return [Content(path, {"": b""}) for path in paths]


def test_the_median_is_that_of_the_file_and_turns_are_taken(sleepers: list[Content]) -> None:
    fast, slow = latency.measure(sleepers, seconds=0.2, least=5)
    assert 2 <= fast.p50 < slow.p50
    assert slow.p50 >= 6
    assert min(fast.n, slow.n) >= 5
    changes = sum(one != other for one, other in zip(Sleeper.turns, Sleeper.turns[1:], strict=False))
    assert changes >= 3
    # The slow start of each turn is in no sample's median, nor its maximum's cause: it was left out.
    assert len(Sleeper.turns) == fast.n + slow.n + 2 * latency.WARM_UP + changes - 1
    assert sorted(Sleeper.closed) == ["2", "6"]


def test_nothing_to_measure_and_files_that_cannot_be_opened(tmp_path: Path, sleepers: list[Content]) -> None:
    assert latency.measure([]) == []
    odd = Content(tmp_path / "x.odd", {"": b""})
    with pytest.raises(BadInput):
        latency.measure([sleepers[0], odd])
    assert Sleeper.closed == ["2"]


def test_the_picture_is_the_same_for_all() -> None:
    about: Any = SimpleNamespace(manifest=SimpleNamespace(preprocess=Preprocess(height=4, width=6)))
    assert np.array_equal(latency._picture(about), latency._picture(about))
