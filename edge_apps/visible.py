"""Text of others on a terminal: labels, file names, device names and rows of logs may hold what steers it.

Control characters (ESC, and C1 as U+009B, which starts the same sequences) move the cursor, set the title or type
answers; bidirectional overrides show one name as another. A reader sees a replacement character in their place; JSON
has them escaped, so that a program reads exactly what is there.
"""

from __future__ import annotations

import unicodedata

JOINERS = "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"
"""Format characters that writing needs: Persian, the scripts of India, emoji."""


def visible(text: str) -> str:
    """Replace the characters that could steer a terminal, line breaks among them, and others that nobody sees."""
    if text.isprintable():
        return text
    return "".join(character if _is_visible(character) else "\N{REPLACEMENT CHARACTER}" for character in text)


def visible_lines(text: str) -> str:
    """The same line by line; line feeds are kept."""
    return "\n".join(map(visible, text.split("\n")))


def visible_json(document: str) -> str:
    """Escape those characters in a JSON text, in which they stand in strings only: it means exactly the same."""
    if document.isascii():
        return document.replace("\x7f", "\\u007f")  # the encoder has escaped the others
    return "".join(
        character if character < "\x7f" or _is_visible(character) else _escaped(character) for character in document
    )


def _is_visible(character: str) -> bool:
    return character.isprintable() or character in JOINERS or unicodedata.category(character) == "Zs"


def _escaped(character: str) -> str:
    """``\\u009b``; two of them for a character beyond the first 65,536."""
    code = ord(character)
    if code < 0x10000:
        return f"\\u{code:04x}"
    return f"\\u{0xD800 + (code - 0x10000 >> 10):04x}\\u{0xDC00 + (code - 0x10000 & 0x3FF):04x}"
