"""Writing a bundle: everything in a staging folder beside it, then one exchange."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edge_apps.files import sync_folder, write_whole
from edge_apps.runtime.manifest import (
    FORMAT,
    MANIFEST,
    Bundle,
    BundleFile,
    BundleManifest,
    FileManifest,
    load_bundle,
    sha256_of,
    size_of,
)
from pipeline.errors import BadInput

RENAME_EXCHANGE = 2
AT_FDCWD = -100


def check_free(out: Path, force: bool) -> None:
    """Refuse, before work starts, a place that may not be written or replaced.

    Raises:
        BadInput: it exists and ``force`` is not given; it exists and is no bundle; it cannot be written.
    """
    if out.exists() and not _is_empty_folder(out):
        if not (out / MANIFEST).is_file():
            raise BadInput(f"'{out}' exists and is not a bundle: it is not replaced. Choose another --out.")
        if not force:
            raise BadInput(f"Bundle '{out}' exists. Pass --force to replace it, or choose another --out.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        probe = _beside(out, "probe")
        probe.mkdir()
        probe.rmdir()
    except OSError as error:
        raise BadInput(f"Cannot write '{out}': {error.strerror}. Choose an --out that you can write to.") from error


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """A folder beside ``out`` to write into; it becomes ``out`` when the block ends, or vanishes if it fails."""
    _remove_abandoned(out)
    folder = _beside(out, "tmp")
    folder.mkdir(parents=True)
    try:
        yield folder
        for path in folder.rglob("*"):
            if path.is_file():
                with path.open("rb") as stream:
                    os.fsync(stream.fileno())
        _take_the_place(folder, out)
    finally:
        # After an exchange this is the old bundle; after a failure, what was half done.
        shutil.rmtree(folder, ignore_errors=True)


def describe(folder: Path, path: Path, role: Any, **facts: Any) -> BundleFile:
    """One entry of the manifest for a file that lies in the folder."""
    return BundleFile(
        path=path.relative_to(folder).as_posix(), role=role, sha256=sha256_of(path), bytes=size_of(path), **facts
    )


def write_manifest(folder: Path, about: FileManifest, files: list[BundleFile]) -> Bundle:
    """Write ``manifest.json``, read it back, and return the bundle."""
    import msgspec

    manifest = BundleManifest(
        format=FORMAT,
        model=about.model,
        options=about.options,
        labels=about.labels,
        preprocess=about.preprocess,
        provenance=about.provenance,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        files=tuple(files),
    )
    write_whole(folder / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=1))
    return load_bundle(folder)


def _take_the_place(folder: Path, out: Path) -> None:
    if not out.exists():
        folder.rename(out)
    elif not _exchange(folder, out):
        old = _beside(out, "old")
        out.rename(old)
        try:
            folder.rename(out)
        except BaseException:
            old.rename(out)
            raise
        shutil.rmtree(old)
    sync_folder(out.parent)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two folders in one step (Linux's renameat2); False where the system cannot."""
    with contextlib.suppress(AttributeError, OSError):
        rename = ctypes.CDLL(None, use_errno=True).renameat2
        return bool(rename(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0)
    return False


def _remove_abandoned(out: Path) -> None:
    """Folders of exports that were killed: their process is gone."""
    for left in out.parent.glob(f".{out.name}.tmp-*"):
        process = left.name.rpartition("-")[2]
        if process.isdigit() and not Path(f"/proc/{process}").exists() and Path("/proc/self").exists():
            shutil.rmtree(left, ignore_errors=True)


def _beside(out: Path, kind: str) -> Path:
    return out.parent / f".{out.name}.{kind}-{os.getpid()}"


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())
