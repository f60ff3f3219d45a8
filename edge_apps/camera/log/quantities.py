"""Quantities as people write them: sizes of files, spans of time."""

from __future__ import annotations

import re

from edge_apps.errors import BadInput

SIZES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
SPANS = {"w": 7 * 86_400, "d": 86_400, "h": 3600, "m": 60, "s": 1}

LARGEST = 1000 * SIZES["T"]
"""Bytes: more than any log may take."""

LONGEST = 5200 * SPANS["w"]
"""Seconds: a century."""

_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_SPAN = re.compile(" ?".join(f"(?:({_NUMBER}) ?{unit})?" for unit in SPANS))


def parse_bytes(text: str) -> int:
    """Bytes of ``200M``, ``1.5G``, ``800k`` (decimal: 10^6, 10^9, 10^3), at most 1000T; ``BadInput`` for all else."""
    match = re.fullmatch(rf"({_NUMBER}) ?([kKMGT]?)B?", text.strip())
    if not match:
        raise BadInput(f"'{text}' is no size: write a number of bytes, or one with k, M, G or T behind it, as 200M.")
    size = float(match[1]) * SIZES[match[2].replace("K", "k")]
    if size > LARGEST:
        raise BadInput(f"The size '{text:.20}' is too large: choose 1000T at most.")
    return round(size)


def parse_span(text: str) -> float:
    """Seconds of ``90s``, ``1h30m``, ``30d``, the longest unit first, at most 5200w; ``BadInput`` for all else."""
    match = _SPAN.fullmatch(text.strip())
    if not match or not any(match.groups()):
        raise BadInput(
            f"'{text}' is no span of time: write a number with s, m, h, d or w behind it, as 90s, 1h30m, 30d."
        )
    span = float(sum(float(part or 0) * unit for part, unit in zip(match.groups(), SPANS.values(), strict=True)))
    if span > LONGEST:
        raise BadInput(f"The span of time '{text:.20}' is too long: choose 5200w at most.")
    return span
