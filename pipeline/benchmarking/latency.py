"""Latency of several files against each other, in one run: what this machine does meanwhile happens to all of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np

from edge_apps.runtime.content import Content
from edge_apps.runtime.latency import Summary, summarize
from edge_apps.runtime.runner import Runner, open_runner

WARM_UP = 3
BLOCK_SECONDS = 0.1
"""A file runs this long before the next has its turn: caches and clocks settle, and still all see the same minute."""


def measure(contents: Sequence[Content], *, threads: int = 1, seconds: float = 3.0, least: int = 20) -> list[Summary]:
    """Milliseconds of single inferences, batch 1, of every file, as ``take_turns`` measures them.

    Raises:
        NotRunHere, MissingExtra: this machine has no runtime for a file. What ``open_runner`` raises.
    """
    with ExitStack() as opened:
        runners: list[Runner] = []
        for content in contents:
            runners.append(open_runner(content, threads))
            opened.callback(runners[-1].close)
        return take_turns(runners, seconds=seconds, least=least)


def take_turns(runners: Sequence[Runner], *, seconds: float = 3.0, least: int = 20) -> list[Summary]:
    """Milliseconds of single inferences of every runner, which take turns in short blocks.

    Each runs for at least ``seconds`` and ``least`` times after a warm-up that is not counted. The first run of each
    block is left out too: it finds the caches as another file left them.
    """
    pictures = [_picture(runner) for runner in runners]
    for runner, picture in zip(runners, pictures, strict=True):
        for _ in range(WARM_UP):
            runner.run(picture)
    samples: list[list[int]] = [[] for _ in runners]
    while any(sum(taken) < seconds * 1e9 or len(taken) < least for taken in samples):
        for runner, picture, taken in zip(runners, pictures, samples, strict=True):
            runner.run(picture)
            taken += _block(runner, picture)
    return [summarize(taken) for taken in samples]


def _block(runner: Runner, picture: np.ndarray) -> list[int]:
    taken: list[int] = []
    end = time.perf_counter_ns() + int(BLOCK_SECONDS * 1e9)
    while not taken or time.perf_counter_ns() < end:
        began = time.perf_counter_ns()
        runner.run(picture)
        taken.append(time.perf_counter_ns() - began)
    return taken


def _picture(runner: Runner) -> np.ndarray:
    """One picture of noise: kernels take no notice of what they multiply."""
    preprocess = runner.manifest.preprocess
    shape = (1, preprocess.height, preprocess.width, 3)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)
