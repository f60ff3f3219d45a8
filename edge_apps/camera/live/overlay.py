"""What is drawn over a picture that people look at: labels, and how fast it goes; readable at any size."""

from __future__ import annotations

import threading
import unicodedata
from collections.abc import Sequence
from typing import Any

import cv2

from edge_apps.images import Image

LONGEST_SIDE = 1280
"""Pixels: a larger picture is shrunk before it is shown, since a viewer's network is slower than a camera."""

SHORTEST_SIDE = 240
"""Pixels: a smaller picture is enlarged by a whole factor, or no text would fit on it."""

LINE = 0.065
"""Height of the first line of text, as a share of the picture's shorter side."""

SMALLER = 0.7
"""Size of the other lines beside the first."""

LIGHT, DARK = (255, 255, 255), (16, 16, 16)

# OpenCV 5 has fonts that know every alphabet; OpenCV 4 draws ASCII alone, as strokes.
_FONT: Any = cv2.FontFace("sans") if hasattr(cv2, "FontFace") else None  # type: ignore[call-overload, unused-ignore]
_font_lock = threading.Lock()  # OpenCV does not promise that two threads may write with one font
_WEIGHT = 600
_STROKES = cv2.FONT_HERSHEY_SIMPLEX
_STROKE_HEIGHT = 30.0
"""Pixels that a line of strokes takes at scale 1."""


def captioned(image: Image, labels: Sequence[tuple[str, float]], note: str) -> Image:
    """A copy of uint8 ``[H, W, 3]`` RGB to look at, as BGR: ``labels`` at its foot, best first, ``note`` at its head.

    The copy is shrunk or enlarged (``LONGEST_SIDE``, ``SHORTEST_SIDE``); ``image`` itself stays as it is.
    """
    canvas: Image = cv2.cvtColor(resized(image), cv2.COLOR_RGB2BGR)  # type: ignore[assignment]
    size = LINE * min(canvas.shape[:2])
    small, margin = SMALLER * size, round(0.6 * size)
    foot = canvas.shape[0] - margin
    with _font_lock:
        for rank, (label, probability) in reversed(list(enumerate(labels))):
            height = size if rank == 0 else small
            _write(canvas, label, f"  {probability * 100:.1f} %", (margin, foot), height)
            foot -= round(1.4 * height)
        _write(canvas, note, "", (margin, margin + round(0.8 * small)), small)
    return canvas


def resized(image: Image) -> Image:
    """The picture in a size that people can look at; the same array where it has one."""
    height, width = image.shape[:2]
    if max(height, width) > LONGEST_SIDE:
        scale = LONGEST_SIDE / max(height, width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        return cv2.resize(image, size, interpolation=cv2.INTER_AREA)  # type: ignore[return-value]
    factor = min(-(-SHORTEST_SIDE // min(height, width)), LONGEST_SIDE // max(height, width))
    if factor > 1:
        size = (width * factor, height * factor)
        return cv2.resize(image, size, interpolation=cv2.INTER_NEAREST)  # type: ignore[return-value]
    return image


def _write(canvas: Image, text: str, tail: str, at: tuple[int, int], height: float) -> None:
    """One line, dark around light; where it is too long, ``text`` is cut, never ``tail``."""
    text, tail = _drawable(text), _drawable(tail)
    room = canvas.shape[1] - 2 * at[0]
    line = text + tail
    while text and _width(line, height) > room:
        text = text[:-1].rstrip()
        line = f"{text}{'…' if _FONT else '..'}{tail}"
    if _FONT:
        _with_font(canvas, line, at, height)
    else:
        _with_strokes(canvas, line, at, height)


def _drawable(text: str) -> str:
    """With strokes alone, letters without their accents: an e is better than a question mark."""
    if _FONT:
        return text
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode() or text


def _width(line: str, height: float) -> int:
    if _FONT:
        x, _, width, _ = cv2.getTextSize((0, 0), line, (0, 0), _FONT, round(height), _WEIGHT)  # type: ignore[call-overload, unused-ignore]
        return int(x + width)
    (width, _), _ = cv2.getTextSize(line, _STROKES, height / _STROKE_HEIGHT, _thickness(height))
    return int(width)


def _with_font(canvas: Image, line: str, at: tuple[int, int], height: float) -> None:
    edge, (x, y) = max(1, round(height / 14)), at
    around = [(x + dx * edge, y + dy * edge) for dx in (-1, 1) for dy in (-1, 1)]
    for place, colour in [*((place, DARK) for place in around), (at, LIGHT)]:
        cv2.putText(canvas, line, place, colour, _FONT, round(height), _WEIGHT)  # type: ignore[call-overload, unused-ignore]


def _with_strokes(canvas: Image, line: str, at: tuple[int, int], height: float) -> None:
    thickness = _thickness(height)
    for width, colour in ((3 * thickness, DARK), (thickness, LIGHT)):
        cv2.putText(canvas, line, at, _STROKES, height / _STROKE_HEIGHT, colour, width, cv2.LINE_AA)


def _thickness(height: float) -> int:
    return max(1, round(height / 16))
