"""Read damaged inputs of one kind in a forked worker with a memory limit, and tell which were no refusal.

``python tests/fuzz/campaign.py KIND FIRST COUNT`` reads the inputs of ``COUNT`` seeds from ``FIRST`` on; with a count
of 1 it repeats what a test reported. It prints the counts and every fault as JSON.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

PATIENCE, WAIT = 5.0, 60.0
"""Seconds of the processor that one input may take, and seconds that it may wait; a machine may have other work."""

MEMORY = 512 * 2**20
"""Bytes that reading one may take beyond what the worker has after its imports."""

HEADER = struct.Struct("<qddqq")
"""What a worker shares: the seed that it reads, since when by the clock and by the time of the processor that it used,
and how many inputs it accepted and refused."""


def main(kind: str, first: int, count: int) -> int:
    """Read them all, and print what was found."""
    sys.path.insert(0, str(Path(__file__).parents[2]))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from device_kinds import KINDS
    from workbench_kinds import KINDS as OF_THE_WORKBENCH

    chosen = {**KINDS, **OF_THE_WORKBENCH}[kind]
    corpus = chosen.corpus()
    _warm_up(chosen, corpus)
    shared = mmap.mmap(-1, 1 << 16)
    faults: list[dict[str, Any]] = []
    totals = [0, 0]
    at, end, began = first, first + count, time.monotonic()
    while at < end:
        HEADER.pack_into(shared, 0, at, time.monotonic(), 0.0, 0, 0)
        worker = os.fork()
        if worker == 0:
            _work(chosen, corpus, kind, range(at, end), shared)
        what = _watched(worker, shared)
        seed, _, _, accepted, refused = HEADER.unpack_from(shared)
        totals = [totals[0] + accepted, totals[1] + refused]
        if what is None:
            break
        faults.append({"kind": kind, "seed": seed, "what": what})
        at = seed + 1
    seconds = round(time.monotonic() - began, 1)
    digest = hashlib.sha256(b"".join(corpus)).hexdigest()
    found = {"kind": kind, "accepted": totals[0], "refused": totals[1], "s": seconds, "corpus": digest}
    print(json.dumps({**found, "faults": faults}))
    return 1 if faults else 0


def _warm_up(kind: Any, corpus: list[bytes]) -> None:
    """Read each whole input, none of which may be refused; then no worker pays for what is loaded on first use."""
    with tempfile.TemporaryDirectory() as folder:
        for data in corpus:
            kind.read(data, Path(folder))


def _refusals() -> type[Exception]:
    from edge_apps.errors import EdgeError

    return EdgeError


def _work(kind: Any, corpus: list[bytes], name: str, seeds: range, shared: mmap.mmap) -> None:
    """Read until an input is not refused as it should be; in a process of its own, which never returns."""
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)  # decoders say there what is wrong with an image
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    code = 1
    try:
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY, held + MEMORY))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 + MEMORY
        accepted = refused = 0
        for seed in seeds:
            HEADER.pack_into(shared, 0, seed, time.monotonic(), time.process_time(), accepted, refused)
            data = kind.damage(random.Random(f"{name} {seed}"), corpus)
            try:
                kind.read(data, folder)
                accepted += 1
            except _refusals() as error:
                refused += 1
                _check_line(str(error))
            if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 > peak:
                raise MemoryError("more than 512 MB were used")
        HEADER.pack_into(shared, 0, seeds[-1], time.monotonic(), time.process_time(), accepted, refused)
        code = 0
    except BaseException:
        text = traceback.format_exc()[-2000:].encode(errors="replace")
        shared[HEADER.size : HEADER.size + len(text)] = text
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(code)


def _check_line(message: str) -> None:
    assert message, "an empty line"
    assert "\n" not in message, f"not one line: {message!r}"
    assert len(message) < 2000, f"a line of {len(message)} characters: {message[:200]!r}"


def _watched(worker: int, shared: mmap.mmap) -> str | None:
    """Wait for a worker; what went wrong with the input that it read last, or None."""
    shared[HEADER.size :] = bytes(len(shared) - HEADER.size)
    before: tuple[Any, ...] = ()
    while True:
        ended, status = os.waitpid(worker, os.WNOHANG)
        if ended:
            break
        now = _, since, used, _, _ = HEADER.unpack_from(shared)
        is_late = _used(worker) - used > PATIENCE or time.monotonic() - since > WAIT
        if is_late and now == before:  # what is read once may be half written
            os.kill(worker, signal.SIGKILL)
            os.waitpid(worker, 0)
            return f"it took more than {PATIENCE:g} s, or waited for more than {WAIT:g} s"
        before = now
        time.sleep(0.02)
    if os.WIFSIGNALED(status):
        return f"it ended by signal {os.WTERMSIG(status)}"
    return shared[HEADER.size :].rstrip(b"\0").decode() if os.WEXITSTATUS(status) else None


def _used(process: int) -> float:
    """Seconds of the processor that a process has used (proc_pid_stat(5), fields 14 and 15)."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of sets is part of what a seed repeats
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "PYTHONHASHSEED": "0"})
    sys.exit(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
