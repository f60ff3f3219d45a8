"""Zip archives as torch writes them, of which every member lies in the file as it is, once.

Anything else (compressed, encrypted, on several disks, members that share bytes or a name) is refused before a byte is
unpacked: a few kilobytes can stand for gigabytes, and two readers of such a file need not see the same.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import TypeVar

from edge_apps.errors import first_line

T = TypeVar("T")

LARGEST_DIRECTORY = 4_000_000
"""Bytes of the list of members; a network of 5,000 tensors has 0.5 MB."""

ENCRYPTED = 0x1
END_RECORD = 22
"""Bytes behind the list of members, where there is no comment (APPNOTE 6.3.10, 4.3.16)."""


class Unread(ValueError):
    """An archive that may be whole, and is not read; says why as a clause."""


def names(data: bytes) -> list[str]:
    """Return the names of the members, unchecked; ``ValueError`` with a clause where it is not a whole archive."""
    return _opened(data, zipfile.ZipFile.namelist)


def members(data: bytes) -> dict[str, bytes]:
    """Return the members by name, without their root folder.

    Raises:
        Unread: an archive that is not as torch writes them. ValueError: not a whole archive. Clauses, both.
    """
    return _opened(data, lambda archive: {name: archive.read(info) for name, info in _checked(archive, data).items()})


def member(data: bytes, name: str) -> bytes:
    """Return one of them; raises as ``members``, and ``ValueError`` where there is none of that name."""

    def read(archive: zipfile.ZipFile) -> bytes:
        infos = _checked(archive, data)
        if name not in infos:
            raise ValueError(f"it has no member '{name}'")
        return archive.read(infos[name])

    return _opened(data, read)


class _Bytes(io.BytesIO):
    """A file whose list of members is not read where it is absurdly long."""

    is_open = False

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > LARGEST_DIRECTORY and not self.is_open:
            raise Unread(f"its list of members has {size:,} bytes, and at most {LARGEST_DIRECTORY:,} are read")
        return super().read(size)


def _opened(data: bytes, use: Callable[[zipfile.ZipFile], T]) -> T:
    stream = _Bytes(data)
    try:
        with zipfile.ZipFile(stream) as archive:
            stream.is_open = True
            return use(archive)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError, OverflowError) as error:
        raise ValueError(first_line(error)) from error
    except (struct.error, zlib.error, OSError) as error:
        raise ValueError("its list of members is damaged") from error


def _checked(archive: zipfile.ZipFile, data: bytes) -> dict[str, zipfile.ZipInfo]:
    """The members by name without their root folder, all as torch writes them; ``Unread`` otherwise."""
    infos = archive.infolist()
    by_name = {info.filename.partition("/")[2]: info for info in infos}
    if any(info.flag_bits & ENCRYPTED for info in infos):
        raise Unread("it is encrypted")
    if any(info.compress_type != zipfile.ZIP_STORED for info in infos):
        raise Unread("it is compressed, which torch does not do")
    if len(by_name) < len(infos):
        raise Unread("it holds two members of one name")
    if data[-END_RECORD:][:4] != b"PK\5\6":
        raise Unread("something follows its list of members")  # two readers may find two lists
    stated = sum(info.file_size for info in infos)
    if stated > len(data) or any(info.compress_size != info.file_size for info in infos):
        raise Unread(f"its members are said to have {stated:,} bytes, and the file has {len(data):,}")
    return by_name
