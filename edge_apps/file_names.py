"""Names of a user's files: how they are printed, and which of them the system made and no user means."""

from __future__ import annotations

from collections.abc import Iterable

SYSTEM_NAMES = frozenset(
    {
        "__macosx",  # zip archives made on macOS
        "__pycache__",
        "@eadir",  # Synology's thumbnails
        "@recently-snapshot",  # QNAP
        "@recycle",
        "@sharebin",
        "@snapshot",
        "@tmp",
        "#recycle",
        "#snapshot",
        "$recycle.bin",
        "~snapshot",  # NetApp
        "aquota.group",
        "aquota.user",
        "desktop.ini",
        "ehthumbs.db",
        "ehthumbs_vista.db",
        "found.000",  # of chkdsk
        "lost+found",
        "network trash folder",  # macOS, on network storage
        "recycle.bin",
        "recycler",  # Windows, on older file systems
        "system volume information",
        "temporary items",
        "thevolumesettingsfolder",
        "thumbs.db",
    }
)
"""Files and folders that operating systems and network storage leave beside images, in lower case."""

PAX_HEADER = "paxheader"
"""Tar archives in pax format leave folders ``PaxHeader``, ``PaxHeaders.1234`` where a program does not know it."""


def is_system_name(name: str) -> bool:
    """Return whether a file or folder of this name is passed over: system files, and names that start with a dot."""
    lower = name.lower()
    return lower.startswith((".", PAX_HEADER)) or lower in SYSTEM_NAMES


def printable(name: str) -> str:
    """Return a file's name as text that can be printed and stored, even where its bytes are no UTF-8."""
    return name.encode("utf-8", "backslashreplace").decode()


def listed(names: Iterable[str], most: int = 3) -> str:
    """Return ``'a', 'b', 'c' and 4 more``."""
    every = list(names)
    shown = ", ".join(f"'{name}'" for name in every[:most])
    return shown + (f" and {len(every) - most} more" if len(every) > most else "")
