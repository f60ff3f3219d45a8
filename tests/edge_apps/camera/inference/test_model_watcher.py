"""A model that is replaced while the program runs: taken when it works, refused when it does not."""

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_apps.camera.inference import model_watcher
from edge_apps.camera.inference.loop import Classifier
from edge_apps.camera.inference.model import Opened
from edge_apps.camera.inference.model_watcher import SETTLED, Models, Watcher, state_of
from edge_apps.camera.sources.parse import Event
from edge_apps.errors import BadInput
from edge_apps.runtime.content import Content

SOON = 10.0
"""Seconds; what is waited for comes within a few hundredths."""


def classifier(fake, model: Path) -> Classifier:
    return Classifier(Opened(fake.FakeRunner(Content.read(model), 1), "", 0.0, ()), top_k=1)


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.005)


def test_what_was_offered_is_taken_once(fake, model: Path) -> None:
    first, second = classifier(fake, model), classifier(fake, model)
    models = Models(first)
    assert models.take() is first
    models.offer(second)
    assert [models.take(), models.take()] == [second, second]
    assert not first.runner.closed, "the loop closes it, when nothing uses it any more"


def test_what_was_never_taken_is_closed(fake, model: Path) -> None:
    first, second, third = (classifier(fake, model) for _ in range(3))
    models = Models(first)
    models.offer(second)
    models.offer(third)
    assert second.runner.closed
    models.close()
    assert third.runner.closed
    late = classifier(fake, model)
    models.offer(late)
    assert late.runner.closed, "it was still being warmed when the run ended"
    assert models.take() is first
    assert not first.runner.closed


class Watched:
    """A watcher of ``path`` that counts what it opened and keeps what it told."""

    def __init__(self, path: Path, fake) -> None:
        self.offered: list[str] = []
        self.told: list[Event] = []
        self.fails: Exception | None = None

        def prepare() -> Classifier:
            if self.fails:
                raise self.fails
            return classifier(fake, path)

        self.watcher = Watcher(path, prepare, self.offered.append, self.told.append, seen=state_of(path), every=0.01)


@pytest.fixture
def watched(model: Path, fake) -> Watched:
    return Watched(model, fake)


def test_nothing_happens_while_nothing_changes(watched: Watched) -> None:
    with watched.watcher:
        time.sleep(0.2)
    assert (watched.offered, watched.told) == ([], [])
    assert "model watcher" not in [thread.name for thread in threading.enumerate()]


def test_a_changed_file_is_opened_once(watched: Watched, model: Path, fake) -> None:
    with watched.watcher:
        fake.write_fake(model, seconds=0.0)
        until(lambda: watched.offered)
        time.sleep(0.1)
    assert len(watched.offered) == 1
    assert watched.told == []


def test_what_fails_is_told_and_what_is_mended_is_taken(watched: Watched, model: Path, fake) -> None:
    watched.fails = BadInput("it is garbage\nof two lines")
    with watched.watcher:
        model.write_bytes(b"garbage")
        until(lambda: watched.told)
        watched.fails = None
        fake.write_fake(model)
        until(lambda: watched.offered)
    (event,) = watched.told
    assert event.kind == "model-refused"
    assert event.reason == "The changed model is not used; the old one stays. it is garbage"


def test_a_model_that_goes_away_and_comes_back(watched: Watched, model: Path) -> None:
    watched.fails = BadInput("No such bundle or file")
    with watched.watcher:
        kept = model.read_bytes()
        model.unlink()
        until(lambda: watched.told)
        watched.fails = None
        model.write_bytes(kept)
        until(lambda: watched.offered)


def test_a_copy_that_is_still_under_way_is_waited_for(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look finds another state until the copy is done; then two that agree, and one attempt."""
    looks = iter(range(10_000))
    states = [*(((("m", n, 0, 0)),) for n in range(20)), (("m", 20, 0, 0),)]
    seen: list[int] = []

    def state(_: Path) -> tuple:
        seen.append(min(next(looks), 20))
        return states[seen[-1]]

    monkeypatch.setattr(model_watcher, "state_of", state)
    with watched.watcher:
        until(lambda: watched.offered)
        at_first = seen.count(20)
        until(lambda: seen.count(20) > at_first + 5)
    assert at_first >= SETTLED, "it opened nothing that was still changing"
    assert len(watched.offered) == 1


def test_a_bundle_changes_when_a_file_or_the_whole_of_it_does(make_bundle: Callable[..., Path], tmp_path: Path) -> None:
    bundle = make_bundle([{"target": "tflite", "precision": "int8"}])
    before = state_of(bundle)
    assert state_of(bundle) == before
    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    link = tmp_path / "current"
    link.symlink_to(bundle)
    assert state_of(link) == before
    link.unlink()
    link.symlink_to(copy)
    assert state_of(link) != before
    (bundle / "manifest.json").write_text("{}")
    assert state_of(bundle) != before
    shutil.rmtree(bundle)
    assert state_of(bundle) == ()


def test_what_else_lies_in_a_bundle_changes_nothing(make_bundle: Callable[..., Path]) -> None:
    bundle = make_bundle([{"target": "tflite", "precision": "int8"}])
    before = state_of(bundle)
    (bundle / "latency.db").write_bytes(b"a log")
    (bundle / "kept").mkdir()
    (bundle / "kept" / "cat.jpg").write_bytes(b"a snapshot")
    assert state_of(bundle) == before
    (model,) = bundle.glob("*.fake")
    model.write_bytes(model.read_bytes())
    assert state_of(bundle) != before


def test_of_a_broken_bundle_only_the_manifest_counts(make_bundle: Callable[..., Path]) -> None:
    """Else a log that grows beside it would keep it from ever settling, and nobody heard of it."""
    bundle = make_bundle([{"target": "tflite", "precision": "int8"}])
    (bundle / "manifest.json").write_text("{")
    before = state_of(bundle)
    (bundle / "latency.db").write_bytes(b"a log")
    assert state_of(bundle) == before != ()


def test_the_current_folder_can_be_looked_at(make_bundle: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = make_bundle([{"target": "tflite", "precision": "int8"}])
    monkeypatch.chdir(bundle)
    assert state_of(Path()) == state_of(bundle) != ()


def test_a_folder_that_is_a_model(tmp_path: Path) -> None:
    package = tmp_path / "net.mlpackage"
    (package / "Data").mkdir(parents=True)
    (package / "Data" / "weights.bin").write_bytes(b"1")
    before = state_of(package)
    (package / "Data" / "weights.bin").write_bytes(b"12")
    assert len(before) == 1
    assert state_of(package) != before
