"""The frame loop: capture → decode → preprocess → infer → postprocess, each timed; nothing else while it measures."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_apps.camera.sources import Event, Frame, Skipped, Source, TestPattern
from edge_apps.errors import BadManifest
from edge_apps.runtime.latency import StageClock
from edge_apps.runtime.preprocess import to_batch
from edge_apps.runtime.runner import Runner

NOT_FINITE = "not-finite"
"""Kind of ``Skipped`` for a frame whose logits are not numbers: a label would be an invention."""


@dataclass(frozen=True)
class Result:
    """What one frame gave: the ``top`` labels with their probabilities, best first, and nanoseconds per stage."""

    sequence: int
    name: str
    captured_at: float
    top: tuple[tuple[str, float], ...]
    times: dict[str, int]


Outcome = Result | Skipped | Event
"""What the loop gives for what the source gave."""


def warm_up(runner: Runner, inferences: int) -> float:
    """Run the network before anything is measured; the first, cold inference's milliseconds.

    Raises:
        BadManifest: the file names more or fewer labels than the network has outputs.
    """
    batch = to_batch([TestPattern().image(0)], runner.manifest.preprocess)
    start = time.perf_counter_ns()
    logits = runner.run(batch)
    first_ms = (time.perf_counter_ns() - start) / 1e6
    labels = len(runner.manifest.labels)
    if logits.shape != (1, labels):
        raise BadManifest(
            f"'{runner.path}' names {labels} labels; its output for one frame has the shape {logits.shape}. "
            "Export it again."
        )
    for _ in range(inferences - 1):
        runner.run(batch)
    return first_ms


def classify(source: Source, runner: Runner, top_k: int) -> Iterator[Outcome]:
    """Classify frame after frame.

    A stage's time runs from the end of the one before it; what the caller does between two frames is in none.
    """
    labels, preprocess = runner.manifest.labels, runner.manifest.preprocess
    clock = StageClock()
    frames = iter(source)
    while True:
        clock.start()
        item = next(frames, None)
        if item is None:
            return
        if not isinstance(item, Frame):
            yield item
            continue
        clock.mark("capture")
        clock.move(item.decode_ns, "capture", "decode")
        batch = to_batch([item.image], preprocess)
        clock.mark("preprocess")
        logits = runner.run(batch)[0]
        clock.mark("infer")
        best = top(logits, top_k)
        clock.mark("postprocess")
        if best is None:
            reason = f"The network gave no numbers for '{item.name}' (NaN or infinite logits)."
            yield Skipped(item.sequence, item.name, item.captured_at, NOT_FINITE, reason)
            continue
        named = tuple((labels[index], probability) for index, probability in best)
        yield Result(item.sequence, item.name, item.captured_at, named, clock.times(item.born_ns))


def top(logits: NDArray[np.float32], k: int) -> list[tuple[int, float]] | None:
    """The ``k`` most probable classes of logits ``[K]``, best first, the lower index first among equals.

    Softmax in float64, shifted by the largest logit so that it cannot overflow. None where a logit is not finite.
    """
    if not np.isfinite(logits).all():
        return None
    exponentials = np.exp(logits.astype(np.float64) - float(logits.max()))
    probabilities = exponentials / exponentials.sum()
    order = np.argsort(-probabilities, kind="stable")[:k]
    return [(int(index), float(probabilities[index])) for index in order]
