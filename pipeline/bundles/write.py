"""Writing a bundle: everything in a staging folder near it, then one exchange."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edge_apps.files import sync_folder, write_whole
from edge_apps.json_text import indented
from edge_apps.leftovers import abandoned, beside
from edge_apps.runtime.content import sha256_of, size_of
from edge_apps.runtime.manifest import (
    FORMAT,
    MANIFEST,
    Bundle,
    BundleFile,
    BundleManifest,
    FileManifest,
    load_bundle,
    with_empty,
)
from edge_apps.runtime.runner import known_suffixes
from edge_apps.runtime.signature import is_signed, signature_of
from pipeline.errors import BadInput

RENAME_EXCHANGE = 2
AT_FDCWD = -100


def check_free(out: Path, force: bool) -> None:
    """Refuse, before work starts, a place that may not be written or replaced; nothing is left there.

    Raises:
        BadInput: it exists and ``force`` is not given; it exists and is no bundle; it cannot be written.
    """
    if out.suffix in known_suffixes():
        raise BadInput(f"`out` is '{out}'; a bundle is a folder of files, and '{out.suffix}' is the name of one file.")
    try:
        place = out.resolve()
        if place.exists():
            _check_replaceable(out, place, force)
        probe = _near(place, "probe")
        probe.mkdir()
        probe.rmdir()
    except OSError as error:
        raise BadInput(f"Cannot write '{out}': {error.strerror}. Choose an `out` that you can write to.") from error


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """A folder near ``out`` to write into; it becomes ``out`` when the block ends, or vanishes if it fails.

    Replaces a bundle that was there when the block began, and an empty folder; a link is followed.

    Raises:
        BadInput: something else lies at ``out`` when the block ends.
    """
    place = out.resolve()
    _clear_up(place)
    replaces = _is_bundle(place)
    folder = _near(place, "tmp")
    folder.mkdir()
    try:
        yield folder
        for path in folder.rglob("*"):
            if path.is_file():
                with path.open("rb") as stream:
                    os.fsync(stream.fileno())
        if replaces and place.exists():
            _replace(folder, place)
        else:
            _appear(folder, place)
        sync_folder(place.parent)
    finally:
        # After an exchange this is the old bundle; after a failure, what was half done.
        shutil.rmtree(folder, ignore_errors=True)


def describe(folder: Path, path: Path, role: Any, **facts: Any) -> BundleFile:
    """One entry of the manifest for a file that lies in the folder."""
    return BundleFile(
        path=path.relative_to(folder).as_posix(), role=role, sha256=sha256_of(path), bytes=size_of(path), **facts
    )


def write_manifest(
    folder: Path,
    about: FileManifest,
    files: list[BundleFile],
    observers: Mapping[str, str] | None = None,
    findings: Sequence[str] = (),
) -> Bundle:
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
        output=about.output,
        observers=dict(observers or {}),
        findings=tuple(findings),
        exported=about.exported,
    )
    write_whole(folder / MANIFEST, indented(with_empty(msgspec.to_builtins(manifest))))
    return load_bundle(folder)


def check_unsigned(root: Path) -> None:
    """Refuse to change what ``manifest.json`` says of a signed bundle: its signature would no longer verify.

    Raises:
        BadInput: it is signed.
    """
    if is_signed(root / MANIFEST):
        raise BadInput(
            f"'{root}' is signed, and storing a result would void its signature ({signature_of(Path(MANIFEST))})."
        )


def change_manifest(root: Path, **changed: Any) -> None:
    """Write ``manifest.json`` anew with these keys changed; ``BadInput`` for a signed bundle.

    As plain JSON, not as ``BundleManifest``: what a newer version wrote beside what this one knows stays.
    """
    import msgspec

    check_unsigned(root)
    path = root / MANIFEST
    manifest = {**msgspec.json.decode(path.read_bytes()), **changed}
    write_whole(path, indented(with_empty(manifest)))


def _check_replaceable(out: Path, place: Path, force: bool) -> None:
    if Path.cwd().is_relative_to(place) or place.is_mount():
        raise BadInput(f"'{out}' is a folder in use: it cannot be replaced. Choose an `out` inside it.")
    if place.is_dir() and not any(place.iterdir()):
        return
    if not _is_bundle(place):
        raise BadInput(f"'{out}' exists and is not a bundle: it is not replaced. Choose another `out`.")
    if not force:
        raise BadInput(f"Bundle '{out}' exists. Pass `force` to replace it, or choose another `out`.")


def _is_bundle(path: Path) -> bool:
    """Any folder may hold some program's ``manifest.json``; a bundle's can be read as one."""
    try:
        load_bundle(path)
    except BadInput:
        return False
    return True


def _appear(folder: Path, place: Path) -> None:
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(place)  # onto nothing or an empty folder; the system refuses anything else
    except OSError as error:
        raise BadInput(f"Cannot put the bundle at '{place}': {error.strerror}. Choose another `out`.") from error


def _replace(folder: Path, place: Path) -> None:
    if _exchange(folder, place):
        return
    old = _near(place, "old")
    try:
        place.rename(old)
        folder.rename(place)
    except BaseException:
        if old.exists() and not place.exists():
            old.rename(place)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two folders in one step (Linux's renameat2); False where the system cannot."""
    with contextlib.suppress(AttributeError, OSError):
        rename = ctypes.CDLL(None, use_errno=True).renameat2
        return bool(rename(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0)
    return False


def _clear_up(place: Path) -> None:
    """Remove what a killed export left; the old bundle of one killed between its two renames is put back."""
    for left, kind in abandoned(_nearest_folder(place) / place.name):
        if kind == "old" and not place.exists():
            left.rename(place)
        else:
            shutil.rmtree(left, ignore_errors=True)


def _near(place: Path, kind: str) -> Path:
    return beside(_nearest_folder(place) / place.name, kind)


def _nearest_folder(place: Path) -> Path:
    """The folder of ``place``, or where that is still to be made, the first above it: failures leave no folder."""
    return next(folder for folder in place.parents if folder.exists())
