"""Logits of a whole set on all cores: of a file through the device's own runner, of the float network, of a graph."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_apps.runtime.content import Content
from edge_apps.runtime.preprocess import Preprocess
from edge_apps.runtime.runner import Runner, open_runner, runs_side_by_side
from edge_apps.threads import in_threads

if TYPE_CHECKING:
    from torch import nn

    from calibration.simulate import Simulator

CHUNK = 16
"""Pictures that a thread takes at a time; progress moves in these steps."""

Done = Callable[[int], None]
"""Told how many pictures more are finished."""


@dataclass(frozen=True)
class Answers:
    """Logits float32 ``[N, K]`` in the order of the pictures, what computed them, and how fast."""

    logits: NDArray[np.float32]
    runtime: str
    images_per_second: float


def run_file(content: Content, pictures: NDArray[np.uint8], threads: int, done: Done) -> Answers:
    """Run an exported file on uint8 ``[N, H, W, 3]`` with at most ``threads`` threads.

    Raises:
        ValueError: the runner gave another number of logits than the file has labels. What ``open_runner`` raises.
    """
    starts = range(0, len(pictures), CHUNK)
    with _opened(content, min(threads, len(starts)), threads) as runners:
        logits = np.empty((len(pictures), len(runners[0].manifest.labels)), np.float32)
        idle: SimpleQueue[Runner] = SimpleQueue()
        for runner in runners:
            idle.put(runner)

        def work(start: int) -> int:
            runner = idle.get()
            try:
                answered = runner.run(pictures[start : start + CHUNK])
            finally:
                idle.put(runner)
            part = logits[start : start + CHUNK]
            if answered.shape != part.shape:
                raise ValueError(f"{list(answered.shape)} logits for {list(part.shape)} pictures and labels")
            part[...] = answered
            return len(part)

        began = time.perf_counter()
        for finished in in_threads(work, starts, len(runners)):
            done(finished)
        seconds = time.perf_counter() - began
        return Answers(logits, runners[0].runtime, len(pictures) / seconds)


def run_network(
    network: nn.Module, preprocess: Preprocess, pictures: NDArray[np.uint8], threads: int, done: Done
) -> Answers:
    """Run the float network on the CPU in float32, on the bytes that the files get: (pixel / 255 − mean) / std."""
    import torch

    from pipeline.graphs.normalise import Normalise

    normalise = Normalise(preprocess)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    starts = range(0, len(pictures), CHUNK)
    parts: dict[int, NDArray[np.float32]] = {}

    def work(start: int) -> int:
        batch = torch.from_numpy(pictures[start : start + CHUNK])
        with torch.inference_mode():
            parts[start] = network(normalise(batch)).numpy()
        return len(batch)

    with one_thread_inside():
        began = time.perf_counter()
        for finished in in_threads(work, starts, min(threads, len(starts))):
            done(finished)
        seconds = time.perf_counter() - began
    logits = np.concatenate([parts[start] for start in starts])
    return Answers(logits, f"torch {torch.__version__}", len(pictures) / seconds)


def run_graph(
    opened: Callable[[], Simulator], pictures: NDArray[np.uint8], threads: int, done: Done
) -> NDArray[np.float32]:
    """Simulate a quantized graph on uint8 ``[N, H, W, 3]``: logits ``[N, K]``. Each thread opens one of its own."""
    import torch

    first = opened()
    batch = _fixed_batch(first) or CHUNK
    starts = range(0, len(pictures), batch)
    idle: SimpleQueue[Simulator] = SimpleQueue()
    for simulator in (first, *(opened() for _ in range(min(threads, len(starts)) - 1))):
        idle.put(simulator)
    parts: dict[int, NDArray[np.float32]] = {}

    def work(start: int) -> int:
        pixels = torch.from_numpy(pictures[start : start + batch]).permute(0, 3, 1, 2).float()
        simulator = idle.get()
        try:
            parts[start] = simulator(pixels).numpy()
        finally:
            idle.put(simulator)
        return len(pixels)

    with one_thread_inside():
        for finished in in_threads(work, starts, min(threads, len(starts))):
            done(finished)
    return np.concatenate([parts[start] for start in starts])


def _fixed_batch(simulator: Simulator) -> int | None:
    """How many pictures the graph takes, where it takes no other number: a network of others may be so."""
    graph: Any = simulator.module.graph
    picture = next(node for node in graph.nodes if node.op == "placeholder")
    count = picture.meta["val"].shape[0]
    return count if isinstance(count, int) else None


@contextmanager
def one_thread_inside() -> Iterator[None]:
    """Pictures go side by side, as for files: torch's own threads spin where cores are shared."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _opened(content: Content, useful: int, threads: int) -> Iterator[list[Runner]]:
    """Runners that together use the threads; closed at the end."""
    runners: list[Runner] = []
    try:
        # ExecuTorch holds the interpreter lock, and all its programs share one thread pool: one runner, all threads
        # inside. That is always safe; LiteRT says that it can do better for small networks.
        if runs_side_by_side(content.suffix):
            for _ in range(useful):
                runners.append(open_runner(content, 1))
        else:
            runners.append(open_runner(content, threads))
        yield runners
    finally:
        for runner in runners:
            runner.close()
