"""Quantities as people write them: sizes of files, spans of time."""

from __future__ import annotations

import re

from edge_apps.errors import BadInput

SIZES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
SPANS = {"w": 7 * 86_400, "d": 86_400, "h": 3600, "m": 60, "s": 1}

_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_SPAN = re.compile(" ?".join(f"(?:({_NUMBER}) ?{unit})?" for unit in SPANS))


def parse_bytes(text: str) -> int:
    """Bytes of ``200M``, ``1.5G``, ``800k`` (decimal: 10^6, 10^9, 10^3); ``BadInput`` for anything else."""
    match = re.fullmatch(rf"({_NUMBER}) ?([kKMGT]?)B?", text.strip())
    if not match:
        raise BadInput(f"'{text}' is no size: write a number of bytes, or one with k, M, G or T behind it, as 200M.")
    return round(float(match[1]) * SIZES[match[2].replace("K", "k")])


def parse_span(text: str) -> float:
    """Seconds of ``90s``, ``1.5h``, ``1h30m``, ``30d``, ``2w``, the longest unit first; ``BadInput`` for all else."""
    match = _SPAN.fullmatch(text.strip())
    if not match or not any(match.groups()):
        raise BadInput(
            f"'{text}' is no span of time: write a number with s, m, h, d or w behind it, as 90s, 1h30m, 30d."
        )
    return float(sum(float(part or 0) * unit for part, unit in zip(match.groups(), SPANS.values(), strict=True)))
