"""Keeps libraries from talking over our own output.

They print by every way there is (C++ streams, logging, warnings, progress bars), so it is stopped at the file
descriptors. ``EDGE_PIPELINE_CHATTER=1`` lets them talk, for when one of them has to be debugged.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

SHOW = "EDGE_PIPELINE_CHATTER"

_lock = threading.Lock()
_inside = 0
_outermost = ExitStack()


@contextmanager
def hushed() -> Iterator[None]:
    """Send stdout and stderr, of C++ libraries too, to a scratch file while the block runs.

    Blocks may overlap, in threads too: descriptors belong to the process, so the first in redirects and the last out
    restores.
    """
    global _inside
    with _lock:
        if _inside == 0:
            _outermost.enter_context(_redirected())
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _outermost.close()


@contextmanager
def _redirected() -> Iterator[None]:
    if os.environ.get(SHOW) == "1":
        yield
        return
    _flush()
    kept = [os.dup(1), os.dup(2)]
    with _scratch() as scratch:
        os.dup2(scratch.fileno(), 1)
        os.dup2(scratch.fileno(), 2)
        try:
            yield
        finally:
            _flush()
            for descriptor, original in zip((1, 2), kept, strict=True):
                os.dup2(original, descriptor)
                os.close(original)


def _scratch() -> IO[bytes]:
    """Where it goes: a file, or nowhere if no disk has room; a program that classifies must not need one."""
    try:
        return tempfile.TemporaryFile()
    except OSError:
        return Path(os.devnull).open("r+b")


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
