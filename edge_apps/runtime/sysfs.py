"""What the kernel says in the small files below ``/proc`` and ``/sys``."""

from __future__ import annotations

from pathlib import Path


def text(path: Path) -> str:
    """A file's text without the newline, or the NUL of the device tree, at its end; "" where there is none to read."""
    try:
        return path.read_bytes().decode(errors="replace").strip("\0 \t\r\n")
    except OSError:
        return ""
