"""A model that nobody vouches for is loaded and run once in a process of its own, before this one opens it.

A runtime trusts the tables of a file: damaged ones can make it read outside its memory, reserve the whole machine's, or
never end. What a bundle's manifest lists by hash needs no trial.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from edge_apps import errors
from edge_apps.children import die_with_parent, same_installation
from edge_apps.errors import BadInput, EdgeError
from edge_apps.runtime.content import Content
from edge_apps.runtime.registry import open_content

MB = 1_000_000

MEMORY, MEMORY_FOR_EACH_BYTE = 512 * MB, 4
"""Bytes that loading and one inference may take beside the runtime itself: weights are copied and repacked."""

SECONDS, BYTES_A_SECOND = 5, 10 * MB
"""Seconds of computing, and one more for each so many bytes: EfficientNet-B7 takes 18 on the slowest board meant."""

WAITING = 12
"""How much longer than it computes a process may take on a machine that is busy."""

REMEDY = (
    "it is damaged, too large for this machine, or not what it says. Take it from where it was exported, or export it "
    "again."
)

_passed: set[tuple[str, bool]] = set()


@dataclass(frozen=True)
class _Request:
    """What the child is asked to try: a model's path, and the sizes of its parts, which follow on stdin."""

    path: str
    xnnpack: bool
    sizes: dict[str, int]


@dataclass(frozen=True)
class _Report:
    """What the child reports: that the model was loaded, or the class and message of an error."""

    loaded: bool = False
    error: str = ""
    message: str = ""


def try_out(content: Content, *, xnnpack: bool = True) -> None:
    """Load a model and run it once in a child process; nothing is repeated for the same bytes.

    Raises:
        BadInput: the child crashed, took too long or too much memory. EdgeError: what opening or running it raises.
    """
    if (content.sha256, xnnpack) in _passed:
        return
    _judge(content, *_in_child(content, xnnpack))
    _passed.add((content.sha256, xnnpack))


def _in_child(content: Content, xnnpack: bool) -> tuple[int | None, list[_Report]]:
    """Return how the child ended, None where it had to be killed, and what it reported."""
    seconds = WAITING * _seconds(content.size)
    ours, theirs = os.pipe()
    with os.fdopen(ours, "rb") as reports:
        try:
            child = subprocess.Popen(
                [sys.executable, "-m", "edge_apps.runtime.trial", str(theirs)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs,),
                env=same_installation(),
                cwd="/",  # Python looks for modules in the current folder first
                start_new_session=True,  # Ctrl-C is for this process, which then kills the child
            )
        finally:
            os.close(theirs)
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.communicate(_request(content, xnnpack), timeout=seconds)
            ended = child.poll()
        finally:
            child.kill()
            child.wait()
        return ended, [_Report(**json.loads(line)) for line in reports.read().splitlines()]


def _judge(content: Content, ended: int | None, reports: list[_Report]) -> None:
    failed = next((report for report in reports if report.error), None)
    if failed is not None:
        kind = getattr(errors, failed.error, EdgeError)
        raise kind(failed.message)
    if ended == 0:
        return
    doing = "run" if any(report.loaded for report in reports) else "loaded"
    if ended in (None, -signal.SIGXCPU):
        limit = f"it did not end within {_seconds(content.size)} s of computing"
        raise BadInput(f"'{content.path}' cannot be {doing}: {limit}. It is damaged, or too large for this machine.")
    how = signal.Signals(-ended).name if ended < 0 else f"status {ended}"
    raise BadInput(f"'{content.path}' cannot be used: its runtime crashed ({how}) when it was {doing}: {REMEDY}")


def _request(content: Content, xnnpack: bool) -> bytes:
    sizes = {name: len(data) for name, data in content.parts.items()}
    head = json.dumps(asdict(_Request(os.fspath(content.path), xnnpack, sizes)))
    return b"".join([head.encode("utf-8", "surrogateescape"), b"\n", *content.parts.values()])


def _seconds(size: int) -> int:
    return SECONDS + math.ceil(size / BYTES_A_SECOND)


def main(descriptor: int) -> None:
    """Be the child: read one model from stdin, open it, run it, and report on the descriptor."""
    die_with_parent()
    with os.fdopen(descriptor, "wb", buffering=0) as reports:

        def report(said: _Report) -> None:
            reports.write(json.dumps(asdict(said)).encode() + b"\n")

        asked = _Request(**json.loads(sys.stdin.buffer.readline()))
        path = Path(asked.path)
        content = Content(path, {name: sys.stdin.buffer.read(size) for name, size in asked.sizes.items()})
        try:
            _open_and_run(content, asked.xnnpack, report)
        except EdgeError as error:
            report(_Report(error=type(error).__name__, message=str(error)))
        except MemoryError:
            most = (MEMORY + MEMORY_FOR_EACH_BYTE * content.size) // MB
            report(_Report(error="BadInput", message=f"'{path}' takes more than {most} MB of memory: {REMEDY}"))


def _open_and_run(content: Content, xnnpack: bool, report: Callable[[_Report], None]) -> None:
    with contextlib.suppress(BadInput):  # a runtime imports its library before it looks at the file
        open_content(Content(content.path, {"": b""}), 1, xnnpack=xnnpack).close()
    _limit(content.size)
    runner = open_content(content, 1, xnnpack=xnnpack)
    report(_Report(loaded=True))
    preprocess = runner.manifest.preprocess
    runner.run(np.zeros((1, preprocess.height, preprocess.width, 3), np.uint8))


def _limit(size: int) -> None:
    """Limit what this process may take from now on, and leave no core file behind when it crashes."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    used = resource.getrusage(resource.RUSAGE_SELF)
    _set(resource.RLIMIT_CPU, math.ceil(used.ru_utime + used.ru_stime) + _seconds(size))
    with contextlib.suppress(OSError):  # no /proc: macOS, which does not enforce the limit either
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        _set(resource.RLIMIT_AS, pages * resource.getpagesize() + MEMORY + MEMORY_FOR_EACH_BYTE * size)


def _set(which: int, limit: int) -> None:
    hard = resource.getrlimit(which)[1]
    resource.setrlimit(which, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


if __name__ == "__main__":
    main(int(sys.argv[1]))
