"""Read what comes from outside: regular files of bounded size, and JSON and TOML that may be damaged or hostile.

A FIFO in place of a file waits for ever, a device may never end, and a text of a few hundred bytes can nest deeper than
the stack of the interpreter. Everything that a user names is read through these functions.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import msgspec

from edge_apps.errors import first_line

T = TypeVar("T")

MB = 1_000_000

LARGEST_TEXT = 16 * MB
"""Bytes of a JSON, TOML or text file: three of them can become an object of 72. The ranges of the largest network of
the zoo take 0.3 MB, the list of 50,000 calibration images 9 MB."""


LARGEST_TOML = 256_000
"""Bytes of a recipe or a configuration. The recipe of a network with 300 float layers has 12,000."""

MOST_DOTS = 1000
"""Dots in one line of TOML: a key of so many parts takes 15 ms, and one of 100 times as many takes minutes."""


class NotRegular(OSError):
    """A FIFO, a device or a socket in place of a file; ``strerror`` is a clause like any other of an ``OSError``."""


class TooLarge(OSError):
    """A file of more bytes than are read of its kind; ``strerror`` names both numbers."""


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading; links are followed. Nothing else is opened for longer than it takes to see it.

    Raises:
        NotRegular: a FIFO, a device or a socket. OSError: what ``open`` raises, for a folder ``IsADirectoryError``.
    """
    _check_regular(path, path.stat().st_mode)  # opening alone may wait, or wind a tape back
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _check_regular(path, os.fstat(descriptor).st_mode)  # it may have been exchanged
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: Path, most: int | None = None) -> bytes:
    """Return the bytes of a regular file, of which there may be ``most``.

    Raises:
        TooLarge: there are more. NotRegular, OSError: as ``open_regular``.
    """
    with open_regular(path) as stream:
        if most is None:
            return stream.read()
        size = os.fstat(stream.fileno()).st_size
        if size > most:
            raise _too_large(path, size, most)
        data = stream.read(size + 1)  # not more: Python reserves as much memory as is asked for
        if len(data) > size:  # it has grown since
            data += stream.read(most - size)
    if len(data) > most:
        raise _too_large(path, len(data), most)
    return data


def parse_json(data: bytes, kind: type[T]) -> T:
    """Decode JSON into a type; ``ValueError`` with a clause that says why it cannot be."""
    return _parsed(msgspec.json.decode, data, kind)


def parse_toml(data: bytes, kind: type[T]) -> T:
    """Decode TOML into a type; ``ValueError`` with a clause that says why it cannot be."""
    if any(line.count(b".") > MOST_DOTS for line in data.splitlines()):
        raise ValueError(f"a line in it has more than {MOST_DOTS:,} dots; divide it")
    return _parsed(msgspec.toml.decode, data, kind)


def convert(document: Any, kind: type[T]) -> T:
    """Make a type of what ``parse_json`` read as plain values; ``ValueError`` with a clause that says why it cannot."""
    return _parsed(msgspec.convert, document, kind)


def _parsed(decode: Any, data: Any, kind: type[T]) -> T:
    try:
        value: T = decode(data, type=kind)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 text (byte {error.start})") from None
    except OverflowError:
        raise ValueError("a number in it is too large") from None
    except ValueError as error:  # msgspec's errors are; so is Python's for an integer of more than 4300 digits
        has_digits = "int_max_str_digits" in str(error)
        raise ValueError("a number in it has too many digits" if has_digits else first_line(error)) from None
    return value


def _check_regular(path: Path, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
        raise NotRegular(errno.EINVAL, f"it is {kinds.get(stat.S_IFMT(mode), 'a special file')}, not a file", str(path))


def _too_large(path: Path, size: int, most: int) -> TooLarge:
    return TooLarge(errno.EFBIG, f"it has {size:,} bytes, and at most {most:,} are read", str(path))
