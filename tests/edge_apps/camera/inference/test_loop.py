"""The frame loop: what a frame's labels and times are, and what the network is shown."""

import itertools
import math
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from edge_apps.camera.capture.frames import never
from edge_apps.camera.inference import loop
from edge_apps.camera.inference.loop import (
    NOT_FINITE,
    Classifier,
    Result,
    best,
    classify,
    probabilities,
    warm_up,
)
from edge_apps.camera.inference.model import Opened
from edge_apps.camera.inference.smoothing import Majority
from edge_apps.camera.sources.parse import Event, Frame, Skipped, parse_source
from edge_apps.errors import BadManifest
from edge_apps.runtime.content import Content
from edge_apps.runtime.latency import STAGES, StageClock
from edge_apps.runtime.manifest import OutputKind


def opened(fake, path: Path):
    """A runner of a fake file."""
    return fake.FakeRunner(Content.read(path), 1)


def using(runner, top_k: int = 1, **reading: object) -> Callable[[], Classifier]:
    """The same classifier for every frame."""
    classifier = Classifier(Opened(runner, "", 0.0, ()), top_k=top_k, **reading)
    return lambda: classifier


def test_frames_come_out_with_their_colour(fake, model: Path, pictures: Path) -> None:
    results = list(classify(parse_source(f"folder:{pictures}"), using(opened(fake, model), 2)))
    assert [(r.name, r.top[0][0]) for r in results] == [
        ("a/red.png", "red"),
        ("b/green.png", "green"),
        ("c/blue.png", "blue"),
    ]
    assert all(len(r.top) == 2 for r in results)
    # The softmax of (20, 1, 1), by hand.
    red = math.exp(20) / (math.exp(20) + 2 * math.exp(1))
    assert results[0].top[0][1] == pytest.approx(red, rel=1e-12)


def test_every_stage_is_timed_and_total_is_their_sum(fake, tmp_path: Path, pictures: Path) -> None:
    model = fake.write_fake(tmp_path / "slow.fake", seconds=0.02)
    for result in classify(parse_source(f"folder:{pictures}"), using(opened(fake, model), 1)):
        assert tuple(result.times) == STAGES
        assert result.times["total"] == sum(result.times[stage] for stage in STAGES[:-2])
        assert result.times["decode"] + 20_000_000 <= result.times["age"] <= result.times["total"], "read, then decoded"
        assert result.times["infer"] >= 20_000_000, "the fake runtime sleeps 20 ms"
        assert min(result.times.values()) > 0


def test_what_the_caller_does_between_frames_is_in_no_stage(fake, model: Path, monkeypatch) -> None:
    ticks = itertools.count()
    pauses = itertools.count(step=1_000_000)
    pause = 0

    def clock() -> int:
        return next(ticks) + pause

    monkeypatch.setattr(loop, "StageClock", lambda: StageClock(clock))
    for result in classify(Frames(["red", "green", "red"]), using(opened(fake, model), 1)):
        took = [result.times[stage] for stage in STAGES if stage != "age"]
        assert took == [1, 0, 1, 1, 1, 4]
        pause = next(pauses)


def test_a_skipped_frame_is_passed_on_and_the_next_one_classified(fake, model: Path, pictures: Path) -> None:
    (pictures / "a/red.png").write_bytes(b"")
    items = list(classify(parse_source(f"folder:{pictures}"), using(opened(fake, model), 1)))
    assert [type(item) for item in items] == [Skipped, Result, Result]


def test_logits_that_are_not_numbers_give_no_label(fake, tmp_path: Path, pictures: Path) -> None:
    model = fake.write_fake(tmp_path / "nan.fake", nan_at=[2])
    items = list(classify(parse_source(f"folder:{pictures}"), using(opened(fake, model), 1)))
    assert [type(item) for item in items] == [Result, Skipped, Result]
    assert items[1].kind == NOT_FINITE
    assert "b/green.png" in items[1].reason


def test_an_endless_source_is_read_only_as_far_as_asked(fake, model: Path) -> None:
    runner = opened(fake, model)
    assert len(list(itertools.islice(classify(parse_source("test-pattern"), using(runner)), 7))) == 7
    assert runner.calls == 7


def test_warm_up_runs_as_often_as_asked(fake, tmp_path: Path) -> None:
    runner = opened(fake, fake.write_fake(tmp_path / "m.fake", seconds=0.01))
    assert warm_up(runner, 4) >= 10.0, "one inference sleeps 10 ms"
    assert runner.calls == 4


def test_labels_that_do_not_fit_the_output_are_refused(fake, tmp_path: Path) -> None:
    runner = opened(fake, fake.write_fake(tmp_path / "m.fake", outputs=6))
    with pytest.raises(BadManifest, match=r"names 3 labels; .* \(1, 6\)"):
        warm_up(runner, 1)


def test_the_best_come_by_probability_and_then_by_index() -> None:
    found = probabilities(np.array([1.0, 3.0, 3.0, -2.0], np.float32))
    assert found is not None
    assert best(found, 4) == [1, 2, 0, 3]
    assert best(found, 2) == [1, 2]
    assert found.sum() == pytest.approx(1.0, abs=1e-15)
    assert found[1] / found[0] == pytest.approx(math.exp(2), rel=1e-14), "float64, not float32"


def test_softmax_does_not_overflow() -> None:
    found = probabilities(np.array([3e38, -3e38], np.float32))
    assert found is not None
    assert found.tolist() == [1.0, 0.0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["logits", "probabilities", "independent-probabilities"])
def test_what_is_not_finite_is_refused(bad: float, kind: OutputKind) -> None:
    assert probabilities(np.array([0.0, bad], np.float32), kind) is None


@pytest.mark.parametrize("kind", ["probabilities", "independent-probabilities"])
def test_a_networks_own_probabilities_are_used_as_they_are(kind: OutputKind) -> None:
    own = np.array([0.875, 0.0, 1.0, 0.125], np.float32)
    found = probabilities(own, kind)
    assert found is not None
    assert (found.dtype, found.tolist()) == (np.float64, own.tolist())
    beyond = probabilities(np.array([1.002, -0.002], np.float32), kind)
    assert beyond is not None
    assert beyond.tolist() == [1.0, 0.0], "int8 rounds a little beyond the ends"


@pytest.mark.parametrize(
    ("kind", "shown", "decision"),
    [
        ("logits", (0.459, 0.376, 0.165), None),
        ("probabilities", (0.9, 0.7, -0.123), "red"),
        ("independent-probabilities", (0.9, 0.7, -0.123), "red"),
    ],
)
def test_threshold_and_labels_go_by_what_the_file_says_of_its_outputs(
    fake, tmp_path: Path, kind: str, shown: tuple[float, ...], decision: str | None
) -> None:
    runner = opened(fake, fake.write_fake(tmp_path / "m.fake", manifest={"output": kind}))
    classifier = using(runner, 3, threshold=0.8)()
    answer = classifier.answer(np.array([0.9, 0.7, -0.123], np.float32), 0)
    assert answer is not None
    own, smoothed, decided = answer
    assert [probability for _, probability in own] == pytest.approx([max(0.0, p) for p in shown], abs=1e-3)
    assert (smoothed, decided) == (own, decision)


# --- what is made of the labels ---------------------------------------------------------------------------------------


@dataclass
class Frames:
    """A source of colours, of which some are events."""

    items: Iterable
    stop: Callable[[], bool] = never
    text = "colours"
    has_names = True
    length = None

    def __iter__(self) -> Iterator[Frame | Skipped | Event]:
        for sequence, item in enumerate(self.items):
            image = np.full((8, 10, 3), COLOURS[item], np.uint8) if isinstance(item, str) else None
            yield item if image is None else Frame(sequence, f"{item}{sequence}", 0.0, sequence, 0, image)


COLOURS = {"red": (200, 10, 10), "green": (10, 180, 10), "reddish": (101, 100, 100)}


def test_below_the_threshold_there_is_no_decision(fake, model: Path) -> None:
    classifier = using(opened(fake, model), threshold=0.5)
    sure, unsure = classify(Frames(["red", "reddish"]), classifier)
    assert (sure.decision, unsure.decision) == ("red", None)
    assert unsure.top[0][0] == "red"


def test_smoothing_changes_what_is_shown_and_not_what_was_seen(fake, model: Path) -> None:
    colours = ["red", "red", "green", "red"]
    results = list(classify(Frames(colours), using(opened(fake, model), smoother=Majority(3))))
    assert [r.top[0][0] for r in results] == colours
    assert [r.decision for r in results] == ["red"] * 4
    assert results[2].smoothed[0] == ("red", pytest.approx(2 / 3))
    assert len(results[0].smoothed) == 1, "one label has all the votes"


def test_a_camera_that_was_away_shows_another_scene(fake, model: Path) -> None:
    frames = Frames(["red", "red", Event(0.0, "lost", "gone"), "green"])
    results = list(classify(frames, using(opened(fake, model), smoother=Majority(3))))
    assert [getattr(r, "decision", "event") for r in results] == ["red", "red", "event", "green"]


# --- pipelined --------------------------------------------------------------------------------------------------------


def test_pipelined_gives_the_same(fake, model: Path, pictures: Path) -> None:
    (pictures / "b/green.png").write_bytes(b"")
    in_series, pipelined = (
        list(classify(parse_source(f"folder:{pictures}"), using(opened(fake, model)), pipelined=on))
        for on in (False, True)
    )
    assert [type(item) for item in pipelined] == [Result, Skipped, Result]
    assert [(r.name, getattr(r, "top", None)) for r in pipelined] == [
        (r.name, getattr(r, "top", None)) for r in in_series
    ]


def test_pipelined_is_never_more_than_one_frame_ahead(fake, model: Path) -> None:
    taken = 0

    def endless() -> Iterator[str]:
        nonlocal taken
        for _ in itertools.count():
            taken += 1
            yield "red"

    items = classify(Frames(endless()), using(opened(fake, model)), pipelined=True)
    for done in range(1, 6):
        next(items)
        assert done <= taken <= done + 1
    items.close()
    assert taken <= 6, "whoever stops asking stops the capture"


def test_pipelined_raises_what_the_source_raised(fake, model: Path) -> None:
    def broken() -> Iterator[str]:
        yield "red"
        raise OSError("the card was pulled")

    items = classify(Frames(broken()), using(opened(fake, model)), pipelined=True)
    assert next(items).decision == "red"
    with pytest.raises(OSError, match="the card was pulled"):
        next(items)


def test_pipelined_shows_life_only_while_the_source_does(fake, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A watchdog that is fed while a disk is dead never bites."""
    monkeypatch.setattr(loop, "POLL", 0.01)
    goes_on = threading.Event()

    def dead_disk() -> Iterator[str]:
        goes_on.wait(0.5)  # says nothing meanwhile
        yield "red"

    fed: list[int] = []
    for _ in classify(
        Frames(dead_disk()),
        using(opened(fake, model)),
        pipelined=True,
        waiting=lambda: fed.append(1),
    ):
        pass
    assert fed == []

    def no_frame() -> Iterator[str]:
        while not source.stop():
            goes_on.wait(0.01)
        yield "red"

    asked: list[int] = []

    def enough() -> bool:
        asked.append(1)
        return len(fed) == 3 or len(asked) > 2000

    source = Frames(no_frame(), enough)
    assert (
        len(
            list(
                classify(
                    source,
                    using(opened(fake, model)),
                    pipelined=True,
                    waiting=lambda: fed.append(1),
                )
            )
        )
        == 1
    )
    assert 3 <= len(fed) <= len(asked) <= 2000


@pytest.mark.parametrize("pipelined", [False, True])
def test_another_classifier_is_announced_before_its_first_frame(fake, model: Path, pipelined: bool) -> None:
    first, second = (Classifier(Opened(opened(fake, model), "", 0.0, ()), top_k=1) for _ in range(2))
    told: list[tuple[Classifier, int, int]] = []
    current = first

    def announced(classifier: Classifier) -> None:
        told.append((classifier, first.runner.calls, second.runner.calls))

    items = classify(Frames(["red"] * 8), lambda: current, pipelined=pipelined, switched=announced)
    for done, _ in enumerate(items, start=1):
        if done == 3:
            current = second
    assert len(told) == 1
    assert told[0] == (second, first.runner.calls, 0), "the old one is done, the new one has not begun"
    assert first.runner.calls in ((3, 4) if pipelined else (3,))
    assert first.runner.calls + second.runner.calls == 8
