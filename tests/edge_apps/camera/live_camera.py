"""A camera without a network, to look at its page: the test pattern, with labels and times that come and go.

``python tests/edge_apps/camera/live_camera.py [[HOST:]PORT]`` serves it until Ctrl-C. Tests use its parts.
"""

from __future__ import annotations

import itertools
import math
import os
import random
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from edge_apps.camera.inference.loop import Result
from edge_apps.camera.inference.session import Session
from edge_apps.camera.live.schema import Facts, LogState
from edge_apps.camera.live.state import LiveState, facts_of
from edge_apps.camera.sources.parse import Event, Skipped, TestPattern
from edge_apps.camera.web.address import parse_web
from edge_apps.camera.web.auth import choose_token
from edge_apps.camera.web.server import WebServer
from edge_apps.images import Image
from edge_apps.runtime.device import this_device
from edge_apps.runtime.sensors import Sample

DEVICE_ID = "3f2a91c0-6f0e-4b6a-9a51-0c2f3d4e5f60"

LABELS = ("tabby cat", "Käfer, long-horned beetle", "notebook computer", "coffee mug")


def some_facts() -> Facts:
    """A session's."""
    session = Session(
        model="mobilenet_v2",
        file="mobilenet_v2-int8.tflite",
        sha256="5d41402abc4b2a76b9719d911017c592" * 2,
        target="tflite",
        precision="int8",
        input="224×224",
        runtime="ai-edge-litert 2.3.0",
        threads=4,
        source="test-pattern",
        settings="30 fps, pipelined",
        governor="ondemand",
        load_ms=41.2,
        first_ms=9.7,
        warmup=5,
        device=this_device(),
        device_id=DEVICE_ID,
        device_name="kitchen-pi",
    )
    return facts_of(session)


def some_result(
    sequence: int, image: Image, label: str = LABELS[0], slow: float = 1.0, *, decoded_elsewhere: bool = False
) -> Result:
    """Of one frame: 0.75 for ``label``. A camera's frames are decoded elsewhere, others where they are classified."""
    others = [other for other in LABELS if other != label]
    top = ((label, 0.75), (others[0], 0.15), (others[1], 0.05))
    ms = {"capture": 21.0, "decode": 4.0, "preprocess": 0.9 * slow, "infer": 14.0 * slow, "postprocess": 0.1}
    times = {stage: round(value * 1e6) for stage, value in ms.items()}
    total = sum(times.values()) - (times["decode"] if decoded_elsewhere else 0)
    times |= {"total": total, "age": round(34e6 * slow)}
    return Result(sequence, f"pattern#{sequence}", time.time(), top, times, smoothed=top, decision=label, image=image)


def some_sample(warmth: float = 0.0) -> Sample:
    """What a Raspberry Pi says."""
    throttled = ("frequency capped",) if warmth > 9 else ("under-voltage (earlier)",)
    return Sample(
        at=time.time(),
        temperature_c=55.0 + warmth,
        clock_mhz=1500.0 if warmth > 9 else 1800.0,
        throttled=throttled,
        memory_mb=118.0 + warmth / 5,
        power_mode="",
    )


@contextmanager
def running(live: LiveState, fps: float = 30.0, *, decoded_elsewhere: bool = False) -> Iterator[threading.Event]:
    """Frames are published while the block runs, unless the event that it gets is set."""
    stop, pause = threading.Event(), threading.Event()
    thread = threading.Thread(target=_publish, args=(live, fps, decoded_elsewhere, stop, pause), daemon=True)
    thread.start()
    try:
        yield pause
    finally:
        stop.set()
        thread.join()


def _publish(
    live: LiveState, fps: float, decoded_elsewhere: bool, stop: threading.Event, pause: threading.Event
) -> None:
    pattern = TestPattern()
    chance = random.Random(1)
    for sequence in itertools.count():
        if stop.wait(1 / fps):
            return
        if pause.is_set():
            continue
        label = LABELS[int(time.time() / 2) % len(LABELS)]
        slow = 1 + 0.3 * math.sin(time.time() / 20) + chance.expovariate(12)
        image = pattern.image(sequence)
        live.publish(some_result(sequence, image, label, slow, decoded_elsewhere=decoded_elsewhere))
        if sequence % round(fps) == 0:
            live.sample(some_sample(10 * math.sin(time.time() / 60) + chance.random()))


def main() -> None:
    """Serve it."""
    address = parse_web(sys.argv[1] if len(sys.argv) > 1 else "8080")
    live = LiveState(some_facts())
    with live, running(live), WebServer(live, address, choose_token(address, os.environ)) as server:
        live.log(LogState("writing"))
        live.event(Event(time.time(), "lost", "The camera ended its stream."))
        live.event(Event(time.time(), "restarted", "Tried again after 0.5 s."))
        live.event(Event(time.time(), "back", "The camera gives frames again after 1.2 s."))
        for sequence in range(3):
            live.event(Skipped(sequence, f"#{sequence}", time.time(), "corrupt", f"Frame {sequence} is cut short."))
        print(server.entry, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
