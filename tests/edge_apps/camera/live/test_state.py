"""What is known of a running camera."""

import threading
import time
from dataclasses import replace
from types import ModuleType
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest

from edge_apps.camera.inference.session import Session
from edge_apps.camera.live import state as live_state
from edge_apps.camera.live.schema import Facts, Happening, Health, LogState, State
from edge_apps.camera.live.state import EVENTS, LiveState, facts_of
from edge_apps.camera.sources.parse import Event, Skipped
from edge_apps.runtime.device import this_device
from edge_apps.runtime.latency import STAGES

IMAGE = np.full((48, 64, 3), 90, np.uint8)


@pytest.fixture
def live(live_camera: ModuleType) -> LiveState:
    """Without its threads: what they do, a test does itself."""
    return LiveState(live_camera.some_facts())


def test_before_the_first_frame(live: LiveState) -> None:
    state = live.state()
    assert (state.frames, state.labels, state.fps, state.latency, state.events) == (0, None, 0.0, {}, ())
    assert state.health == Health(False, "no frame yet")
    assert state.log == LogState("off")


def test_the_latest_frame_is_shown_with_its_smoothed_labels(live: LiveState, live_camera: ModuleType) -> None:
    smoothed = (("tabby cat", 0.6), ("coffee mug", 0.4))
    result = replace(live_camera.some_result(7, IMAGE, "coffee mug"), smoothed=smoothed)
    live.publish(result)
    labels = live.state().labels
    assert labels is not None
    assert (labels.sequence, labels.frames, labels.decision) == (7, 1, "coffee mug")
    assert [(one.label, one.probability) for one in labels.top] == list(smoothed)
    assert [(one.label, one.probability) for one in labels.raw] == list(result.top)
    assert labels.infer_ms == pytest.approx(14)
    live.publish(live_camera.some_result(8, IMAGE))
    assert live.state().labels.top[0].label == "tabby cat"
    assert live.state().frames == 2
    assert live.state().latency["infer"].n == 2


def test_the_state_is_json_of_the_documented_shape(live: LiveState, live_camera: ModuleType) -> None:
    live.publish(live_camera.some_result(0, IMAGE))
    live.sample(live_camera.some_sample())
    live.event(Event(5.0, "lost", "gone"))
    state = live.state()
    again = msgspec.json.decode(msgspec.json.encode(state), type=State, strict=True)
    assert again == state
    assert set(again.latency) == set(STAGES)
    assert again.sample is not None
    assert again.sample.temperature_c == 55


def test_what_happens_again_and_again_is_one_happening(live: LiveState) -> None:
    for number in range(3):
        live.event(Skipped(number, f"#{number}", float(number), "corrupt", f"frame {number}"))
    live.event(Event(10.0, "restarted", "again"))
    live.event(Skipped(3, "#3", 11.0, "corrupt", "frame 3"))
    live.event(Event(12.0, "restarted", "and again"))
    state = live.state()
    assert state.events == (
        Happening(2.0, "corrupt", "frame 2", 3),
        Happening(10.0, "restarted", "again", 1),
        Happening(11.0, "corrupt", "frame 3", 1),
        Happening(12.0, "restarted", "and again", 1),
    )
    assert (state.skipped, state.restarts) == (4, 2)
    assert live.counts() == ({"restarted": 2}, {"corrupt": 4})


def test_memory_does_not_grow_with_what_happens(live: LiveState, live_camera: ModuleType) -> None:
    sample = live_camera.some_sample()
    for number in range(2000):
        live.event(Event(float(number), f"kind-{number % 7}", "x" * 100))
        live.sample(msgspec.structs.replace(sample, at=float(number)))
    state = live.state()
    assert len(state.events) == EVENTS
    assert state.events[-1].at == 1999
    assert len(state.samples) == live_state.POINTS
    assert np.diff([one.at for one in state.samples]) == pytest.approx([5.0] * 59)
    assert state.sample is not None
    assert state.sample.at == 1999


def test_samples_go_on_after_the_wall_clock_jumped_back(live: LiveState, live_camera: ModuleType) -> None:
    for at in (1e9, 5.0, 6.0, 11.0):
        live.sample(msgspec.structs.replace(live_camera.some_sample(), at=at))
    assert [one.at for one in live.state().samples] == [1e9, 5.0, 11.0]


@pytest.mark.parametrize("days", [-3, 3])
def test_how_long_it_runs_does_not_jump_with_the_wall_clock(
    live: LiveState, monkeypatch: pytest.MonkeyPatch, days: int
) -> None:
    now = time.time() + days * 86400
    monkeypatch.setattr(live_state.time, "time", lambda: now)
    state = live.state()
    assert state.at == now
    assert 0 <= state.at - state.started < 60


def test_a_stage_of_another_process_is_known_by_the_total_without_it(live: LiveState, live_camera: ModuleType) -> None:
    assert not live.state().decoded_elsewhere
    live.publish(live_camera.some_result(0, IMAGE, decoded_elsewhere=True))
    assert live.state().decoded_elsewhere
    live.publish(live_camera.some_result(1, IMAGE))
    assert not live.state().decoded_elsewhere


def test_health(live_camera: ModuleType) -> None:
    live = LiveState(live_camera.some_facts(), stale_after=0.1)
    live.publish(live_camera.some_result(0, IMAGE))
    assert live.health() == Health(True, "")
    time.sleep(0.15)
    assert live.health() == Health(False, "no frame for 0 s")
    live.publish(live_camera.some_result(1, IMAGE))
    assert live.health().ok


def test_log_and_model_are_those_that_were_told_last(live: LiveState, live_camera: ModuleType) -> None:
    live.log(LogState("paused", "the disk is full", 12))
    live.switched(msgspec.structs.replace(live_camera.some_facts(), model="effnet"))
    state = live.state()
    assert state.log.dropped == 12
    assert state.facts.model == "effnet"


def test_publishing_waits_for_nobody(live: LiveState, live_camera: ModuleType) -> None:
    """A viewer in the middle of everything that it may hold does not hold up the frame loop."""
    done = threading.Event()

    def publish() -> None:
        live.publish(live_camera.some_result(0, IMAGE))
        done.set()

    with live._lock, live._recent._lock, live.preview._lock:
        threading.Thread(target=publish, daemon=True).start()
        assert done.wait(20)
    assert live.state().frames == 1


def test_a_viewer_sees_the_frame_with_its_label(live_camera: ModuleType) -> None:
    with LiveState(live_camera.some_facts()) as live, live.preview.watch():
        live.publish(live_camera.some_result(0, IMAGE))
        end = time.monotonic() + 20
        while live.preview.jpeg is None:
            assert time.monotonic() < end
            time.sleep(0.01)
        picture = cv2.imdecode(np.frombuffer(live.preview.jpeg[1], np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (240, 320, 3)  # enlarged
    assert abs(int(picture[120, 310].mean()) - 90) < 5
    assert picture[150:].max() > 200  # text


def test_an_image_says_which_frame_it_is_and_how_late(live: LiveState, live_camera: ModuleType, monkeypatch) -> None:
    noted: list[str] = []
    monkeypatch.setattr(live_state, "captioned", lambda image, labels, note: noted.append(note) or image)  # noqa: ARG005
    live.publish(live_camera.some_result(1234, IMAGE))
    assert live._shown is not None
    live._draw(live._shown)
    assert noted == ["frame 1,234   34.0 ms   0.0 fps"]


@pytest.mark.parametrize(("decision", "best"), [("tabby cat", "tabby cat"), (None, "unsure: tabby cat")])
def test_a_picture_says_whether_it_is_an_answer(
    live_camera: ModuleType, monkeypatch: pytest.MonkeyPatch, decision: str | None, best: str
) -> None:
    written: list[Any] = []
    monkeypatch.setattr(live_state, "captioned", lambda image, labels, _: written.append(labels) or image)
    result = replace(live_camera.some_result(0, IMAGE), decision=decision)
    with LiveState(live_camera.some_facts()) as live, live.preview.watch():
        live.publish(result)
        end = time.monotonic() + 20
        while not written:
            assert time.monotonic() < end
            time.sleep(0.01)
    assert written[0] == ((best, 0.75), *result.shown[1:])


def test_a_picture_that_cannot_be_shown_is_an_event(live_camera: ModuleType) -> None:
    with LiveState(live_camera.some_facts()) as live, live.preview.watch():
        live.publish(live_camera.some_result(0, np.zeros((0, 0, 3), np.uint8)))
        end = time.monotonic() + 20
        while not live.state().events:
            assert time.monotonic() < end
            time.sleep(0.01)
    assert live.state().events[0].kind == "no-picture"


def test_facts_of_a_session() -> None:
    said: dict[str, Any] = {name: name for name in ("model", "file", "sha256", "target", "precision", "input")}
    said |= {"runtime": "r", "source": "s", "settings": "loop", "governor": "powersave", "device": this_device()}
    said |= {"threads": 2, "warmup": 3, "load_ms": 1.5, "first_ms": 2.5, "device_id": "0f", "device_name": "kitchen-pi"}
    facts = facts_of(Session(**said))
    assert isinstance(facts, Facts)
    assert {name: getattr(facts, name) for name in said} == said
    assert facts.hardware == str(said["device"])
    assert facts.fingerprint == said["device"].fingerprint
