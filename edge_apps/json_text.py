"""JSON for people to read."""

from __future__ import annotations

from typing import Any

import msgspec


def indented(value: Any, indent: int = 1) -> bytes:
    """Return a value as JSON in UTF-8, a key on each line."""
    return msgspec.json.format(msgspec.json.encode(value), indent=indent)
