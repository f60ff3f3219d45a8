"""What is written beside its place until it is whole, and what a killed process left there.

The name says who writes: ``.<name>.<kind>-<process>``. SQLite adds its own endings to that of a database.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_ENDING = re.compile(r"(tmp|old|probe)-([0-9]{1,10})(?:-journal|-wal|-shm)?")


def beside(place: Path, kind: str = "tmp") -> Path:
    """Where this process writes what will be ``place``."""
    return place.with_name(f".{place.name}.{kind}-{os.getpid()}")


def abandoned(place: Path) -> Iterator[tuple[Path, str]]:
    """Everything that processes which are gone left beside ``place``, each with its kind; nothing without the folder.

    What bears the number of this process is not its own either, before it writes: a container gives its first process
    the same number every time.
    """
    start = f".{place.name}."
    with suppress(OSError), os.scandir(place.parent) as entries:
        for name in [entry.name for entry in entries if entry.name.startswith(start)]:
            found = _ENDING.fullmatch(name.removeprefix(start))
            if found and _is_gone(int(found[2])):
                yield place.with_name(name), found[1]


def clear_files(place: Path) -> None:
    """Remove the files among what was left beside ``place``."""
    for left, _ in abandoned(place):
        with suppress(OSError):  # a folder is not ours, and what cannot be removed does no harm
            left.unlink()


def _is_gone(process: int) -> bool:
    if process == os.getpid():
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:
        return False  # another user's
    return False
