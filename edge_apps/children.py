"""Child processes that run this installation and do not outlive the process that started them."""

from __future__ import annotations

import ctypes
import os
import signal
from contextlib import suppress
from pathlib import Path

import edge_apps

PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends, ``kill -9`` included: prctl(2), Linux only."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def same_installation() -> dict[str, str]:
    """Return the environment in which a child imports the same packages, whatever folder it starts in."""
    home = str(Path(edge_apps.__file__).parents[1])
    others = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    return {**os.environ, "PYTHONPATH": os.pathsep.join([home, *map(os.path.abspath, others)])}
