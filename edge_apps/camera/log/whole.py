"""Large files appear whole: written beside piece by piece, synced, renamed."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from edge_apps.errors import BadInput
from edge_apps.files import check_writable, sync_folder


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Where to write meanwhile what is to be ``path``; an error inside leaves nothing behind, and the old file.

    Raises:
        BadInput: the folder cannot be written, or the disk is full.
    """
    check_writable(path)
    beside = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        yield beside
        with beside.open("rb") as stream:
            os.fsync(stream.fileno())
        beside.replace(path)
        sync_folder(path.parent)
    except (OSError, sqlite3.OperationalError) as error:
        said = error.strerror if isinstance(error, OSError) else str(error)
        raise BadInput(f"Cannot write '{path}': {said}. Choose a folder with room that you can write to.") from error
    finally:
        beside.unlink(missing_ok=True)
