"""Class names from a text file, as editors on any system write it."""

from __future__ import annotations

import codecs
import unicodedata
from pathlib import Path

from edge_apps.untrusted import MB, read_regular
from pipeline.errors import BadInput

LARGEST = 4 * MB
"""Bytes of a label file. The 21,841 classes of ImageNet-21k take 0.5 MB with their synonyms."""

_ENCODINGS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def read_labels(path: Path) -> tuple[str, ...]:
    """Read one class name a line, in the order of the network's outputs.

    UTF-8, with or without a byte order mark, and UTF-16 with one; any line ends. Space around names and blank lines at
    the end are passed over. Letters are composed (NFC), as those of class folders are.

    Raises:
        BadInput: the file cannot be read or is not text, has no name, a blank line between names, or a name twice.
    """
    lines = [unicodedata.normalize("NFC", line.strip()) for line in _text(path).split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    fault = _fault(lines)
    if fault is not None:
        raise BadInput(f"Labels '{path}' must be one class name a line, none empty, none twice: {fault}.")
    return tuple(lines)


def _fault(lines: list[str]) -> str | None:
    if not lines:
        return "it holds no name"
    first: dict[str, int] = {}
    for number, name in enumerate(lines, 1):
        if not name:
            return f"line {number} is blank"
        if name in first:
            return f"'{name}' is in lines {first[name]} and {number}"
        first[name] = number
    return None


def _text(path: Path) -> str:
    """The file's text with lines that end in a line feed."""
    try:
        data = read_regular(path, LARGEST)
    except OSError as error:
        raise BadInput(f"Cannot read labels '{path}': {error.strerror}.") from error
    encoding = next((name for mark, name in _ENCODINGS.items() if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise BadInput(f"Labels '{path}' are not UTF-8 text ({error.reason}): save the file as UTF-8.") from error
    if "\0" in text:  # UTF-16 without a mark, or no text at all
        raise BadInput(f"Labels '{path}' are not UTF-8 text (a zero byte in it): save the file as UTF-8.")
    return text.replace("\r\n", "\n").replace("\r", "\n")
