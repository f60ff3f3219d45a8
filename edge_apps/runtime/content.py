"""The bytes of a model, read once: what was hashed is what runs, whatever happens to the file meanwhile."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from edge_apps.errors import BadInput
from edge_apps.untrusted import open_regular, read_regular

CHUNK = 1 << 20


@dataclass(frozen=True, eq=False)
class Content:
    """A model file, or a package that is a folder, as it was when it was read.

    path: where it was read; for messages. parts: the bytes of the file under the name "", those of a package's files
    under their "/"-separated paths.
    """

    path: Path
    parts: Mapping[str, bytes]

    @classmethod
    def read(cls, path: Path) -> Content:
        """Read a file or a package.

        Raises:
            BadInput: it is not there, is a FIFO or a device, or cannot be read; a package that holds links.
        """
        try:
            return cls(path, {name: read_regular(file) for name, file in _parts(path)})
        except OSError as error:
            raise _unreadable(path, error) from error

    @property
    def suffix(self) -> str:
        """The suffix of its name, by which the runtime is chosen."""
        return self.path.suffix

    @property
    def is_package(self) -> bool:
        """Whether it is a folder of files."""
        return "" not in self.parts

    @property
    def data(self) -> bytes:
        """The bytes of a file; ``BadInput`` for a package."""
        if self.is_package:
            raise BadInput(f"'{self.path}' is a folder; a {self.suffix} model is one file.")
        return self.parts[""]

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(map(len, self.parts.values()))

    @cached_property
    def sha256(self) -> str:
        """The hash that a bundle's manifest records."""
        digest = hashlib.sha256()
        for name in sorted(self.parts, key=_order):
            _begin(digest, name, len(self.parts[name]))
            digest.update(self.parts[name])
        return digest.hexdigest()

    @contextmanager
    def on_disk(self) -> Iterator[Path]:
        """A copy that nobody else can write, for libraries that only open paths; it is removed when the block ends."""
        with tempfile.TemporaryDirectory(prefix="edge-model-") as folder:
            copy = Path(folder) / self.path.name
            for name, data in self.parts.items():
                part = copy / name if name else copy
                part.parent.mkdir(parents=True, exist_ok=True)
                part.write_bytes(data)
            yield copy


def sha256_of(path: Path) -> str:
    """Return the hash of a file or package piece by piece, without holding it; equal to ``Content.read(path).sha256``.

    For files that are recorded, not for one that is run afterwards.
    """
    digest = hashlib.sha256()
    for name, file in sorted(_parts(path), key=lambda part: _order(part[0])):
        with open_regular(file) as stream:
            _begin(digest, name, os.fstat(stream.fileno()).st_size)
            while chunk := stream.read(CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files in a package."""
    return sum(file.stat().st_size for _, file in _parts(path))


def _parts(path: Path) -> Iterator[tuple[str, Path]]:
    """Yield the name and place of each file. A link inside a package could lead anywhere: ``OSError``."""
    if not path.is_dir():
        yield "", path
        return
    for folder, folders, files in os.walk(path, onerror=_raise):
        for name in (*folders, *files):
            entry = Path(folder) / name
            if entry.is_symlink():
                raise OSError(0, f"'{entry.relative_to(path)}' in it is a link")
            if name in files:
                yield entry.relative_to(path).as_posix(), entry


def _raise(error: OSError) -> None:
    raise error


def _begin(digest: Any, name: str, size: int) -> None:
    """Nothing goes before the bytes of a file; in a package, each file's name and size do."""
    if name:
        encoded = os.fsencode(name)
        digest.update(b"%d:%s:%d:" % (len(encoded), encoded, size))


def _order(name: str) -> tuple[str, ...]:
    """Folder by folder, as paths compare."""
    return PurePosixPath(name).parts


def _unreadable(path: Path, error: OSError) -> BadInput:
    if isinstance(error, FileNotFoundError) and error.filename == str(path):
        return BadInput(f"No such file: '{path}'.")
    return BadInput(f"Cannot read '{path}': {error.strerror}. Give a file that was written by 'pipeline export'.")
