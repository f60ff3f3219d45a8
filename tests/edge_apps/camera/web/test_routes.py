"""Every route, as a program sees it."""

import http.client
import itertools
import json
import re
import threading
import time
from collections.abc import Callable, Iterator

import cv2
import msgspec
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from edge_apps.camera.live.schema import LogState, State
from edge_apps.camera.sources.parse import Event, Skipped
from edge_apps.camera.web.routes import PAGE
from edge_apps.runtime.latency import STAGES

PATHS = [*PAGE, "/snapshot.jpg", "/api/state", "/metrics", "/healthz", "/stream", "/frames", "/events"]


def wait_for_frames(camera) -> None:
    end = time.monotonic() + 30
    while camera.live.state().frames < 3:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_the_page_and_its_parts(serve: Callable) -> None:
    camera = serve()
    for path, (_, content_type) in PAGE.items():
        answer = camera.get(path)
        assert (answer.status, answer.headers["Content-Type"]) == (200, content_type)
    page = camera.get("/").text
    assert set(re.findall(r'(?:href|src)="([^"]+)"', page)) <= {*PAGE, "/stream"}  # nothing from elsewhere
    assert "style=" not in page
    assert "<style" not in page
    for part in ("/page.css", "/page.js", "/chart.js", "/icon.svg"):
        found = re.findall(r"https?://[^\s\"']+", camera.get(part).text)
        assert set(found) <= {"http://www.w3.org/2000/svg"}


def test_head_tells_what_get_would(serve: Callable) -> None:
    camera = serve()
    wait_for_frames(camera)
    for path in PATHS:
        answer = camera.get(path, "HEAD")
        assert (answer.status, answer.body) == (200, b"")
        assert answer.headers["Content-Type"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
def test_nothing_can_be_written(serve: Callable, method: str) -> None:
    camera = serve(frames=False)
    for path in ("/", "/api/state", "/nowhere"):
        answer = camera.get(path, method)
        assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")


NOWHERE = (
    *("/static/", "/static/page.js", "/stream/", "//", "/../server.py", "/%2e%2e/server.py", "/page.js/", "/page.html"),
    *("/x?a=b", "/\\", "/%00", "*"),
)


@pytest.mark.parametrize("path", NOWHERE)
def test_there_is_nothing_else(serve: Callable, path: str) -> None:
    answer = serve(frames=False).get(path)
    assert (answer.status, answer.text) == (404, "Not found.\n")


def test_headers_of_every_answer(serve: Callable) -> None:
    camera = serve()
    wait_for_frames(camera)
    for path, method in [*((path, "HEAD") for path in PATHS), ("/nowhere", "GET"), ("/", "POST")]:
        headers = camera.get(path, method).headers
        assert "default-src 'self'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == "no-store"
        assert headers["Server"] is None


def test_the_state_is_the_documented_one(serve: Callable, live_camera) -> None:
    camera = serve()
    wait_for_frames(camera)
    answer = camera.get("/api/state")
    state = msgspec.json.decode(answer.body, type=State, strict=True)
    assert answer.headers["Content-Type"] == "application/json"
    assert state.version == 2
    assert (state.facts.device_name, state.facts.device_id) == ("kitchen-pi", live_camera.DEVICE_ID)
    assert state.health.ok
    assert state.frames >= 3
    assert state.labels is not None
    assert state.labels.top[0].probability == 0.75
    assert set(state.latency) == set(STAGES)


def test_a_snapshot_is_the_latest_frame(serve: Callable) -> None:
    camera = serve()
    wait_for_frames(camera)
    pictures = []
    for _ in range(2):
        answer = camera.get("/snapshot.jpg")
        assert (answer.status, answer.headers["Content-Type"]) == (200, "image/jpeg")
        pictures.append(cv2.imdecode(np.frombuffer(answer.body, np.uint8), cv2.IMREAD_COLOR))
        time.sleep(0.3)
    assert pictures[0].shape == (480, 640, 3)
    assert (pictures[0] != pictures[1]).any()
    assert camera.live.preview.viewers == 0


def test_no_frame_no_snapshot(serve: Callable) -> None:
    answer = serve(frames=False).get("/snapshot.jpg")
    assert (answer.status, answer.text) == (503, "There is no picture yet.\n")


def test_health(serve: Callable, live_camera) -> None:
    camera = serve(frames=False, stale_after=0.3)
    assert camera.get("/healthz").status == 503
    assert json.loads(camera.get("/healthz").body) == {"ok": False, "reason": "no frame yet"}
    camera.live.publish(live_camera.some_result(0, np.zeros((8, 8, 3), np.uint8)))
    assert (camera.get("/healthz").status, json.loads(camera.get("/healthz").body)["ok"]) == (200, True)
    time.sleep(0.5)
    answer = camera.get("/healthz")
    assert answer.status == 503
    assert json.loads(answer.body)["reason"].startswith("no frame for")


def test_the_video_is_a_row_of_different_jpegs(serve: Callable) -> None:
    camera = serve()
    connection = http.client.HTTPConnection("127.0.0.1", camera.port, timeout=30)
    connection.request("GET", "/stream")
    answer = connection.getresponse()
    kind, _, boundary = answer.headers["Content-Type"].partition("; boundary=")
    assert kind == "multipart/x-mixed-replace"
    seen = []
    assert answer.readline() == f"--{boundary}\r\n".encode()
    for _ in range(3):
        assert answer.readline() == b"Content-Type: image/jpeg\r\n"
        length = int(answer.readline().removeprefix(b"Content-Length: "))
        assert answer.readline() == b"\r\n"
        seen.append(answer.read(length))
        assert answer.readline() == b"\r\n"
        assert answer.readline() == f"--{boundary}\r\n".encode()
    assert camera.live.preview.viewers == 1
    answer.close()
    connection.close()
    pictures = [cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) for data in seen]
    assert all(picture.shape == (480, 640, 3) for picture in pictures)
    assert len(set(seen)) == 3
    end = time.monotonic() + 30
    while camera.live.preview.viewers:  # who goes is no viewer any more
        assert time.monotonic() < end
        time.sleep(0.01)


def of_frame(sequence: int) -> np.ndarray:
    """An image that says in its brightness which frame it is."""
    return np.full((480, 640, 3), 3 * (sequence % 80), np.uint8)


def shown_in(jpeg: bytes) -> int:
    """Which frame an encoded image is of, from its middle, where nothing is drawn."""
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    return round(float(np.median(image[200:280, 400:600])) / 3)


def parts_of(answer: http.client.HTTPResponse, boundary: str) -> Iterator[tuple[str, bytes]]:
    """Type and content of the parts of an endless answer."""
    assert answer.readline() == f"--{boundary}\r\n".encode()
    while True:
        content_type = answer.readline().decode().removeprefix("Content-Type: ").strip()
        length = int(answer.readline().removeprefix(b"Content-Length: "))
        assert answer.readline() == b"\r\n"
        yield content_type, answer.read(length)
        assert answer.readline() == b"\r\n"
        assert answer.readline() == f"--{boundary}\r\n".encode()


def test_labels_and_image_of_a_pair_are_of_one_frame(serve: Callable, live_camera) -> None:
    """Also while frames come faster than they are encoded, and a viewer is slower than both."""
    camera = serve(frames=False)
    stop = threading.Event()

    def publish() -> None:
        for sequence in itertools.count():
            if stop.wait(0.004):
                return
            label = live_camera.LABELS[sequence % 4]
            camera.live.publish(live_camera.some_result(sequence, of_frame(sequence), label))

    thread = threading.Thread(target=publish, daemon=True)
    thread.start()
    connection = http.client.HTTPConnection("127.0.0.1", camera.port, timeout=30)
    connection.request("GET", "/frames")
    answer = connection.getresponse()
    kind, _, boundary = answer.headers["Content-Type"].partition("; boundary=")
    assert kind == "multipart/mixed"
    parts, seen = parts_of(answer, boundary), []
    for _ in range(5):
        (first, said), (second, jpeg) = next(parts), next(parts)
        assert (first, second) == ("application/json", "image/jpeg")
        labels = json.loads(said)
        assert shown_in(jpeg) == labels["sequence"] % 80
        assert labels["top"][0]["label"] == live_camera.LABELS[labels["sequence"] % 4]
        seen.append(labels["sequence"])
        time.sleep(0.15)
    assert seen == sorted(set(seen))
    for _ in range(2):
        shot = camera.get("/snapshot.jpg")
        assert shown_in(shot.body) == int(shot.headers["X-Frame-Sequence"]) % 80
    stop.set()
    thread.join()
    answer.close()
    connection.close()


def test_events_bring_labels_and_the_state(serve: Callable) -> None:
    camera = serve()
    connection = http.client.HTTPConnection("127.0.0.1", camera.port, timeout=30)
    connection.request("GET", "/events")
    answer = connection.getresponse()
    assert answer.headers["Content-Type"] == "text/event-stream"
    seen: dict[str, list] = {"state": [], "labels": []}
    name = ""
    while len(seen["state"]) < 3 or len(seen["labels"]) < 4:
        field, _, value = answer.readline().decode().rstrip("\n").partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            seen[name].append(json.loads(value))
    answer.close()
    connection.close()
    assert seen["state"][-1]["frames"] > seen["state"][0]["frames"]
    sequences = [labels["sequence"] for labels in seen["labels"]]
    assert sequences == sorted(set(sequences))
    assert seen["labels"][0]["top"][0]["probability"] == 0.75


def test_metrics_are_what_prometheus_reads(serve: Callable, live_camera) -> None:
    camera = serve(frames=False)
    for sequence in range(4):
        camera.live.publish(live_camera.some_result(sequence, np.zeros((8, 8, 3), np.uint8)))
    camera.live.sample(live_camera.some_sample(12))
    camera.live.event(Event(time.time(), "restarted", "again"))
    camera.live.event(Skipped(4, "#4", time.time(), "corrupt", "cut"))
    answer = camera.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    values = {
        (one.name, *sorted(one.labels.items())): one.value for family in families.values() for one in family.samples
    }
    assert values["edge_camera_frames_total",] == 4
    assert values["edge_camera_skipped_total", ("kind", "corrupt")] == 1
    assert values["edge_camera_events_total", ("kind", "restarted")] == 1
    assert values["edge_camera_source_restarts_total",] == 1
    assert values["edge_camera_log_dropped_rows_total",] == 0
    assert values["edge_camera_healthy",] == 1
    assert values["edge_camera_temperature_celsius",] == 67
    assert values["edge_camera_cpu_frequency_hertz",] == 1.5e9
    assert values["edge_camera_throttled",] == 1
    assert values["edge_camera_resident_memory_bytes",] == pytest.approx(120.4e6)
    assert abs(values["edge_camera_last_frame_timestamp_seconds",] - time.time()) < 60
    build = families["edge_camera_build_info"].samples[0]
    assert (build.value, build.labels["model"], build.labels["precision"]) == (1, "mobilenet_v2", "int8")
    assert (build.labels["device_name"], build.labels["device_id"]) == ("kitchen-pi", live_camera.DEVICE_ID)
    stage = families["edge_camera_stage_duration_seconds"]
    assert (stage.type, families["edge_camera_frames"].type) == ("histogram", "counter")
    infer = "edge_camera_stage_duration_seconds"
    assert values[f"{infer}_count", ("stage", "infer")] == 4
    assert values[f"{infer}_sum", ("stage", "infer")] == pytest.approx(4 * 0.014)
    assert values[f"{infer}_bucket", ("le", "0.01"), ("stage", "infer")] == 0
    assert values[f"{infer}_bucket", ("le", "0.025"), ("stage", "infer")] == 4
    assert values[f"{infer}_bucket", ("le", "+Inf"), ("stage", "infer")] == 4


def test_how_long_it_runs_does_not_jump_with_the_wall_clock(serve: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    camera = serve(frames=False)
    now = time.time() + 3 * 86400
    monkeypatch.setattr(time, "time", lambda: now)
    (told,) = re.findall(r"^edge_camera_uptime_seconds (\S+)$", camera.get("/metrics").text, re.MULTILINE)
    assert 0 <= float(told) < 60


@pytest.mark.parametrize(("log", "told"), [("writing", ["1.0"]), ("paused", ["0.0"]), ("off", [])])
def test_whether_the_log_is_written_where_there_is_one(serve: Callable, log: str, told: list[str]) -> None:
    camera = serve(frames=False)
    camera.live.log(LogState(log))
    assert re.findall(r"^edge_camera_log_writing (\S+)$", camera.get("/metrics").text, re.MULTILINE) == told


def test_what_the_device_does_not_say_is_no_metric(serve: Callable, live_camera) -> None:
    camera = serve(frames=False)
    silent = msgspec.structs.replace(live_camera.some_sample(), temperature_c=None, clock_mhz=None, throttled=None)
    camera.live.sample(silent)
    text = camera.get("/metrics").text
    assert "edge_camera_temperature" not in text
    assert "edge_camera_throttled" not in text
    assert "edge_camera_resident_memory_bytes" in text
