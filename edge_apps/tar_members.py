"""The members of a tar that may be damaged or hostile, one by one and without unpacking.

``tarfile`` reads the headers. It takes their sizes and numbers as they are, so what it reads goes through limits here.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from typing import Any, BinaryIO

LARGEST_HEADER = 1_000_000
"""Bytes of what pax and GNU headers say of one member, such as its path and its attributes."""

MOST_GLOBAL = 100
"""Pax records that hold for all members, and are applied to each; ``git archive`` writes one."""

LONGEST_PATH, DEEPEST = 4096, 64
"""Characters of a member's path, as Linux has it (PATH_MAX), and folders in it."""

_PAX = frozenset({tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE})
_TYPE = slice(156, 157)
_RECORD = re.compile(rb"([0-9]{1,7}) ")


class BadTar(Exception):
    """A file that is not a whole uncompressed tar, or not one that is read; says why as a clause."""


def tar_members(stream: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """Give every member of an uncompressed tar, in order; none is kept.

    Raises:
        BadTar: it is damaged, ends without its end mark, or has headers or paths of absurd size.
    """
    try:
        limited: Any = _Limited(stream)
        with tarfile.open(fileobj=limited, mode="r:") as tar:
            at = -1
            while (member := tar.next()) is not None:
                vars(tar)["members"] = []  # else a million members take a gigabyte
                _check(tar, member, at)
                at = tar.offset
                limited.refill()
                yield member
            stream.seek(tar.offset)
            if stream.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
                raise BadTar("it ends without its end mark: it is truncated")  # tarfile says nothing
    except tarfile.TarError as error:
        raise BadTar(str(error)) from error
    except (ValueError, ArithmeticError, LookupError, RecursionError, EOFError) as error:
        raise BadTar("a header in it is damaged") from error


def is_tar(stream: BinaryIO) -> bool:
    """Return whether a file begins as an uncompressed tar, and leave it where it was."""
    at = stream.tell()
    try:
        return next(tar_members(stream), None) is not None
    except (BadTar, OSError):
        return False
    finally:
        stream.seek(at)


def _check(tar: tarfile.TarFile, member: tarfile.TarInfo, before: int) -> None:
    if tar.offset <= before or member.size < 0:  # else it is read in a circle
        raise BadTar(f"a member has the size {member.size:,}")
    if len(tar.pax_headers) > MOST_GLOBAL:
        raise BadTar(f"it has more than {MOST_GLOBAL} global records")
    if len(member.name) > LONGEST_PATH or len(member.linkname) > LONGEST_PATH or member.name.count("/") > DEEPEST:
        raise BadTar(
            f"the path '{member.name[:40]}…' has {len(member.name):,} characters and {member.name.count('/'):,} "
            f"folders; at most {LONGEST_PATH:,} and {DEEPEST} are read"
        )


class _Limited:
    """A file of which no more is read for one member than a header may have.

    A read without a size is ``tarfile``'s answer to a negative one.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._type = b""
        self.refill()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def refill(self) -> None:
        """Begin to count anew, for the next member."""
        self._left = LARGEST_HEADER

    def read(self, size: int = -1) -> bytes:
        """Read a header, or what belongs to one."""
        if not 0 <= size <= self._left:
            raise BadTar(f"a header in it has {size:,} bytes; at most {LARGEST_HEADER:,} are read")
        self._left -= size
        data = self._stream.read(size)
        if size == tarfile.BLOCKSIZE:
            self._type = data[_TYPE]
        elif self._type in _PAX:
            _check_pax(data)
        return data


def _check_pax(data: bytes) -> None:
    """Refuse records that are no records: ``tarfile`` searches them in quadratic time before Python 3.11.10."""
    at = 0
    while at < len(data) and data[at]:
        found = _RECORD.match(data, at)
        end = at + int(found[1]) if found else 0
        if found is None or not found.end() < end <= len(data) or data[end - 1] != ord("\n"):
            raise BadTar("a pax header in it is damaged")
        at = end
