"""Damage to bytes, and to the structure of JSON and TOML, that a seed repeats exactly."""

from __future__ import annotations

import copy
import json
import random
import struct
from collections.abc import Callable, Sequence
from typing import Any

INTEGERS = (0, 1, -1, 7, 127, 128, 255, 256, *(2**bits - less for bits in (15, 16, 31, 32, 63, 64) for less in (1, 0)))
FORMATS = ("<B", "<H", ">H", "<I", ">I", "<Q", ">Q")

VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63) - 1, 10**30, 1e308, -1e-308, 0.5, "", "x" * 5000, "\0",
    "\x1b[31m", "../../etc/passwd", "/dev/zero", "é", "\ud800", [], {}, [[]] * 3, {"a": {}},
)  # fmt: skip
"""What takes the place of a value in JSON."""

WORDS = (
    "nan", "inf", "-inf", "9" * 5000, "0x" + "f" * 400, "1e999", "-1", "0", "''", '"\\u0000"', "[]", "{}", "true",
    "[[[1]]]", "1979-05-27T07:32:00Z", "[" * 3000, "{a=" * 400, '"""', "2" * 19, '"' + "x" * 3000 + '"', "a.b.c",
)  # fmt: skip
"""What takes the place of a value in TOML."""

Mutation = Callable[[random.Random, bytes], bytes]


def mutated(chance: random.Random, corpus: Sequence[bytes]) -> bytes:
    """Return one of the corpus, damaged one to four times, or spliced with another one."""
    data = chance.choice(corpus)
    if chance.random() < 0.1:
        data = _spliced(chance, data, chance.choice(corpus))
    for _ in range(chance.choice((1, 1, 2, 4))):
        data = chance.choice(_PLAIN)(chance, data)
    return data


def mutated_json(chance: random.Random, corpus: Sequence[bytes]) -> bytes:
    """Return a document of the corpus with other values, keys or depth; sometimes with damage to its bytes."""
    if chance.random() < 0.3:
        return mutated(chance, corpus)
    document = json.loads(chance.choice(corpus))
    for _ in range(chance.choice((1, 1, 2, 5))):
        document = _changed(chance, document)
    text = json.dumps(document).encode()
    if chance.random() < 0.1:
        text = text.replace(b"0", chance.choice((b"1e999", b"NaN", b"9" * 5000, b"[" * 3000)), 1)
    return text


def mutated_toml(chance: random.Random, corpus: Sequence[bytes]) -> bytes:
    """Return a text of the corpus with other values and keys; sometimes with damage to its bytes."""
    if chance.random() < 0.3:
        return mutated(chance, corpus)
    lines = chance.choice(corpus).decode().splitlines()
    for _ in range(chance.choice((1, 1, 2, 4))):
        at = chance.randrange(len(lines))
        key, _, value = lines[at].partition("=")
        kind = chance.randrange(5)
        if kind == 0:
            lines.insert(at, chance.choice(lines))
        elif kind == 1:
            lines[at] = "a." * chance.choice((1, 10, 3000)) + key + "=" + value
        elif kind == 2:
            lines[at] = f"[{key.strip(' #')}]"
        else:
            lines[at] = f"{key}= {chance.choice(WORDS)}"
    return "\n".join(lines).encode()


def _changed(chance: random.Random, document: Any) -> Any:
    """The document with one of its values replaced, removed, repeated or put deeper."""
    places = list(_places(document))
    if not places:
        return copy.deepcopy(chance.choice(VALUES))
    parent, key = chance.choice(places)
    kind = chance.randrange(6)
    if kind == 0:
        del parent[key]
    elif kind == 1 and isinstance(parent, dict):
        parent[str(chance.choice(VALUES))[:100]] = parent[key]
    elif kind == 2:
        for _ in range(chance.choice((1, 3, 150))):
            parent[key] = [parent[key]]
    elif kind == 3:
        other = parent[chance.choice(list(parent))] if isinstance(parent, dict) else [parent[key]] * 50
        parent[key] = json.loads(json.dumps(other))
    else:
        parent[key] = copy.deepcopy(chance.choice(VALUES))
    return document


def _places(document: Any) -> list[tuple[Any, Any]]:
    """Every container with each of its keys; not inside what was nested by an earlier change."""
    found, left = [], [(document, 0)]
    while left:
        here, depth = left.pop()
        keys = list(here) if isinstance(here, dict) else range(len(here)) if isinstance(here, list) else ()
        for key in keys:
            found.append((here, key))
            if depth < 20:
                left.append((here[key], depth + 1))
    return found


def _flip(chance: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 4, 16)) if data else 0):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _truncate(chance: random.Random, data: bytes) -> bytes:
    return data[: chance.randrange(len(data) + 1)]


def _insert_number(chance: random.Random, data: bytes) -> bytes:
    """Overwrite a place, or make room, with an integer at an edge of its type."""
    form, number = chance.choice(FORMATS), chance.choice(INTEGERS)
    value = struct.pack(form, number % (1 << 8 * struct.calcsize(form)))
    at = chance.randrange(len(data) + 1)
    return data[:at] + value + data[at + chance.choice((0, len(value), len(value))) :]


def _remove(chance: random.Random, data: bytes) -> bytes:
    at = chance.randrange(len(data) + 1)
    return data[:at] + data[at + chance.choice((1, 2, 8, 100)) :]


def _repeat(chance: random.Random, data: bytes) -> bytes:
    at = chance.randrange(len(data) + 1)
    return data[:at] + data[at : at + chance.choice((1, 4, 64, 512))] * chance.choice((2, 3, 200)) + data[at:]


def _spliced(chance: random.Random, data: bytes, other: bytes) -> bytes:
    return data[: chance.randrange(len(data) + 1)] + other[chance.randrange(len(other) + 1) :]


_PLAIN: tuple[Mutation, ...] = (_flip, _flip, _truncate, *[_insert_number] * 3, _remove, _repeat)
