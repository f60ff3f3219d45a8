"""Keeps exporter libraries from talking over our own output.

They print by every way there is (C++ streams, logging, warnings, progress bars), so it is stopped at the file
descriptors. What they said is shown when they fail, and left alone when ``EDGE_PIPELINE_CHATTER=1``.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

SHOW = "EDGE_PIPELINE_CHATTER"


@contextmanager
def hushed() -> Iterator[None]:
    """Send stdout and stderr, of C++ libraries too, to a scratch file while the block runs."""
    if os.environ.get(SHOW) == "1":
        yield
        return
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    with tempfile.TemporaryFile() as scratch:
        os.dup2(scratch.fileno(), 1)
        os.dup2(scratch.fileno(), 2)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for descriptor, original in zip((1, 2), kept, strict=True):
                os.dup2(original, descriptor)
                os.close(original)
