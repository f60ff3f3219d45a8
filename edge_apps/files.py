"""Files appear whole: written beside, synced, renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edge_apps.errors import BadInput
from edge_apps.leftovers import beside, clear_files


def write_whole(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Write a file so that a reader, or a power cut, sees the old content or the new, never a part.

    ``mode`` says who may read and write it at most; the umask takes away from that.

    Raises:
        BadInput: the folder cannot be written; nothing is left behind.
    """
    with whole_file(path) as new:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """The same for what is written piece by piece: where to write it meanwhile. An error inside leaves the old file.

    What a killed process left there, while it wrote the same file, is removed first.

    Raises:
        BadInput: the folder cannot be written, or the disk is full; nothing is left behind.
    """
    new = beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        clear_files(path)
        yield new
        with new.open("rb") as stream:
            os.fsync(stream.fileno())
        new.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise BadInput(f"Cannot write '{path}': {error.strerror}. Choose a folder that you can write to.") from error
    finally:
        with suppress(OSError):
            new.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Refuse, before work starts, a file that ``write_whole`` could not write; ``BadInput``. Nothing is left there."""
    if path.is_dir():
        raise BadInput(f"'{path}' is a folder: name a file to write.")
    if path.exists() and not path.is_file():
        raise BadInput(f"'{path}' is not a regular file, and would be replaced: name a file to write.")
    probe = beside(path, "probe")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise BadInput(f"Cannot write '{path}': {error.strerror}. Choose a folder that you can write to.") from error


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
