"""What the camera program costs beside the network: ``python tests/benchmarks/camera_overhead.py [--json]``.

MobileNetV2 int8 at 224×224 (untrained: its arithmetic is the same), ``.tflite``, one thread, frames of 640×480. Four
ways take turns, several rounds each, in one run, so that they see the same machine:

- ``bare``: LiteRT's ``invoke()`` alone, on one input, over and over;
- ``in series``, ``pipelined``: ``edge-camera run`` itself, with its log, its live page, and a viewer who reads the
  stream (10 pictures a second).

Frames come from memory; what it takes to get one from a capture process is measured beside that, on a slot that
another process fills 60 times a second. The aims: preprocess, postprocess and hand-over within a millisecond (medians),
and 75 % (in series) or 90 % (pipelined) of the bare throughput.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter  # type: ignore[import-not-found]

from edge_apps.camera.capture.frame_slot import Reader
from edge_apps.camera.capture.frames import Frame, Item, never, now
from edge_apps.camera.inference.loop import Outcome, Result
from edge_apps.camera.inference.model import Opened, open_model
from edge_apps.camera.inference.session import Session
from edge_apps.camera.log.sink import LogOptions
from edge_apps.camera.run import Options, Tally, run
from edge_apps.camera.sources.pattern import TestPattern
from edge_apps.camera.web.address import parse_web
from edge_apps.camera.web.sink import WebOptions
from edge_apps.runtime.device import this_device
from edge_apps.runtime.preprocess import to_batch

ROUNDS, SECONDS = 5, 4.0
MOST_OVERHEAD_MS, LEAST_IN_SERIES, LEAST_PIPELINED = 1.0, 0.75, 0.90


class Frames:
    """Pictures of 640×480 from memory for so many seconds, each a new array, as a capture process hands them over."""

    text, has_names, length = "memory", False, None

    def __init__(self, seconds: float) -> None:
        self.stop = never
        self._seconds = seconds
        pattern = TestPattern()
        self._images = [pattern.image(number) for number in range(0, 160, 8)]

    def __iter__(self) -> Iterator[Item]:
        end = time.perf_counter() + self._seconds
        for number in itertools.count():
            image = self._images[number % len(self._images)].copy()
            if time.perf_counter() > end:
                return
            yield Frame(number, f"memory#{number}", *now(), 0, image)


class Watching:
    """The program's output: it keeps the times of every frame, and looks at the page from its own process."""

    def __init__(self) -> None:
        self.times: list[dict[str, int]] = []
        self.tally = Tally()
        self._viewer = contextlib.ExitStack()

    def started(self, session: Session, passed_over: tuple[str, ...]) -> None:
        """Nobody needs to know."""

    def serving(self, url: str) -> None:
        self._viewer.enter_context(watched(url))

    def item(self, item: Outcome, tally: Tally) -> None:
        del tally
        assert isinstance(item, Result), item
        self.times.append(item.times)

    def finished(self, tally: Tally) -> None:
        self.tally = tally

    def close(self) -> None:
        self._viewer.close()


def bare(opened: Opened, seconds: float) -> float:
    """Inferences a second of LiteRT alone: ``invoke()`` and nothing else."""
    interpreter = Interpreter(model_path=str(opened.runner.path), num_threads=1)
    interpreter.allocate_tensors()
    batch = to_batch([TestPattern().image(0)], opened.runner.manifest.preprocess)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], batch)
    done, start = 0, time.perf_counter()
    while (took := time.perf_counter() - start) < seconds:
        interpreter.invoke()
        done += 1
    return done / took


def program(opened: Opened, seconds: float, log: Path, pipelined: bool) -> tuple[float, list[dict[str, int]]]:
    """Frames a second of ``edge-camera run``, logged and watched, and each frame's times."""
    output = Watching()
    options = Options(pipelined=pipelined, log=LogOptions(log), web=WebOptions(parse_web("0"), None))
    run(Frames(seconds), opened, output, options)
    return output.tally.fps or 0.0, output.times


VIEWER = """
import contextlib, http.client, sys, urllib.request
with urllib.request.urlopen(sys.argv[1], timeout=30) as stream, contextlib.suppress(http.client.IncompleteRead):
    print("reading", flush=True)
    while stream.read1(1 << 16):
        pass  # until the program ends, in the middle of a picture
"""


@contextlib.contextmanager
def watched(url: str) -> Iterator[None]:
    """A viewer who reads all that comes, in a process of its own."""
    viewer = subprocess.Popen([sys.executable, "-c", VIEWER, f"{url}stream"], stdout=subprocess.PIPE)
    assert viewer.stdout is not None
    assert viewer.stdout.readline()
    try:
        yield
    finally:
        viewer.kill()
        viewer.communicate()


CAMERA = """
import sys, time
from edge_apps.camera.capture.frames import now
from edge_apps.camera.sources.pattern import TestPattern
from edge_apps.camera.capture.frame_slot import Writer
writer, image = Writer([int(number) for number in sys.argv[2:]]), TestPattern().image(0)
end = time.perf_counter() + float(sys.argv[1])
while time.perf_counter() < end:
    writer.write(image, *now(), 0)
    time.sleep(1 / 60)
"""


def hand_over(seconds: float) -> float:
    """Median milliseconds to take a new frame of 640×480 from another process."""
    reader = Reader()
    command = [sys.executable, "-c", CAMERA, str(seconds), *map(str, reader.descriptors)]
    camera = subprocess.Popen(command, pass_fds=reader.descriptors)
    taken, last = [], 0
    while camera.poll() is None:
        start = time.perf_counter_ns()
        shared = reader.newest(last)
        if shared is not None:
            taken.append(time.perf_counter_ns() - start)
            last = shared.sequence
        time.sleep(0.002)
    reader.close()
    return statistics.median(taken) / 1e6


def measure() -> dict[str, object]:
    """All of it."""
    from pipeline import zoo
    from pipeline.benchmarking.untrained import untrained_bundle
    from pipeline.data import open_data

    spec = zoo.get("mobilenet_v2")
    with (
        untrained_bundle(spec, spec.with_defaults({}), 224, open_data("digits", "calibration")) as bundle,
        tempfile.TemporaryDirectory() as folder,
    ):

        def opened() -> Opened:
            return open_model(bundle.root, "tflite", "int8", 1)

        alone = opened()
        bare(alone, 1.0)
        rates: dict[str, list[float]] = {"bare": [], "in series": [], "pipelined": []}
        times: list[dict[str, int]] = []
        for number in range(ROUNDS):
            rates["bare"].append(bare(alone, SECONDS))
            fps, seen = program(opened(), SECONDS, Path(folder, f"{number}.db"), False)
            rates["in series"].append(fps)
            times += seen
            rates["pipelined"].append(program(opened(), SECONDS, Path(folder, f"{number}p.db"), True)[0])
    stages = {s: float(np.median([t[s] for t in times]) / 1e6) for s in ("preprocess", "infer", "postprocess")}
    stages["hand-over"] = hand_over(SECONDS)
    shares = {
        name: statistics.median(rate / bare for rate, bare in zip(rates[name], rates["bare"], strict=True))
        for name in ("in series", "pipelined")
    }
    return {"device": str(this_device()), "fps": rates, "share of bare": shares, "p50 ms": stages}


def main() -> None:
    """Measure, print, and say what was reached."""
    found = measure()
    if "--json" in sys.argv[1:]:
        print(json.dumps(found, indent=1))
        return
    stages, shares = found["p50 ms"], found["share of bare"]
    assert isinstance(stages, dict)
    assert isinstance(shares, dict)
    print(found["device"])
    for name, rates in found["fps"].items():  # type: ignore[attr-defined]
        print(f"{name:<10} {', '.join(f'{rate:.1f}' for rate in rates)} frames a second")
    print("p50 ms: " + ", ".join(f"{stage} {ms:.3f}" for stage, ms in stages.items()))
    overhead = stages["preprocess"] + stages["postprocess"] + stages["hand-over"]
    for what, reached, aim, met in (
        ("preprocess + postprocess + hand-over, ms", overhead, MOST_OVERHEAD_MS, overhead <= MOST_OVERHEAD_MS),
        ("in series, of bare", shares["in series"], LEAST_IN_SERIES, shares["in series"] >= LEAST_IN_SERIES),
        ("pipelined, of bare", shares["pipelined"], LEAST_PIPELINED, shares["pipelined"] >= LEAST_PIPELINED),
    ):
        print(f"{what}: {reached:.3f} (aim {aim:.2f}): {'reached' if met else 'MISSED'}")


if __name__ == "__main__":
    main()
