"""What kind of source a user means who writes only a path or a number: of a file, its content decides."""

from __future__ import annotations

import re
import stat
from pathlib import Path

from edge_apps.camera.capture.mjpeg import Bytes, JpegStream, StreamEnded
from edge_apps.image_formats import HEAD, READ, unread_format
from edge_apps.tar_members import is_tar
from edge_apps.untrusted import open_regular

KINDS = ("folder", "image", "video", "test-pattern", "usb", "v4l2", "csi", "rtsp", "http", "https")
"""What may stand in front of the colon."""

PATHS = ("folder", "image", "video", "v4l2")
"""Kinds that are written with a path behind the colon."""

COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ")
"""A file that begins so may be a compressed tar, which is refused as a folder of images: it has to be unpacked."""

SEVERAL_IN_ONE = b"MPF\0"
"""In a photograph that carries further images behind it, as its preview or its gain map (CIPA DC-007)."""


def split_source(text: str, folder: Path = Path()) -> tuple[str, str]:
    """Return the kind of a source and what follows its colon; an empty kind where there is no such source.

    A kind that is written is taken as it is. A number is that of a camera. Of anything else that exists, the kind is
    found: a device, a folder, an image, a tar, or else a video. Relative paths count from ``folder``.
    """
    written, colon, rest = text.partition(":")
    if not text:
        return "", ""
    path = path_from(folder, text)
    if (colon and written.lower() in KINDS) or (written.lower() in KINDS and _mode(path) is None):
        return written.lower(), rest
    if re.fullmatch(r"[0-9]{1,3}", text):
        return "usb", text
    kind = kind_of(path)
    if not kind and text.startswith("/dev/") and not text.startswith(("/dev/shm/", "/dev/fd/")):
        kind = "v4l2"  # it may be plugged in later
    return kind, text


def path_from(folder: Path, text: str) -> Path:
    """Return a path as a shell would: ``~`` is the home folder, and a relative path counts from ``folder``."""
    try:
        return folder / Path(text).expanduser()
    except RuntimeError:  # no such user: a file may have such a name
        return folder / text


def looks_like_path(text: str) -> bool:
    """Return whether a source that does not exist was meant as a path; one with a colon or an @ may be an address."""
    return not re.search("[:@]", text) and ("/" in text or "." in text)


def kind_of(path: Path) -> str:
    """Return the kind of source that a path is; empty for one that does not exist or that nothing can be read from."""
    mode = _mode(path)
    if mode is None:
        return ""
    if stat.S_ISCHR(mode):
        return "v4l2"
    if stat.S_ISDIR(mode):
        return "folder"
    return kind_of_file(path) if stat.S_ISREG(mode) else ""


def kind_of_file(path: Path) -> str:
    """Return "image", "folder" for a tar, or "video" for anything else, by what is in the file."""
    try:
        with open_regular(path) as file:
            head = file.read(12)
        if head.startswith(b"\xff\xd8\xff"):
            return "video" if _is_mjpeg(path) else "image"
        if head.startswith((b"\x89PNG\r\n\x1a\n", b"BM")) or (head[:4] == b"RIFF" and head[8:] == b"WEBP"):
            return "image"
        with open_regular(path) as file:
            return "folder" if head.startswith(COMPRESSED) or is_tar(file) else "video"
    except OSError:
        return "video"  # whoever opens it says why that fails


def unread_image(path: Path) -> str | None:
    """Return the format of a file that is an image which is not read, by its content or suffix; None for any other."""
    name = unread_format(path.name, _head(path))
    return None if name in READ else name


def is_still(path: Path) -> bool:
    """Return whether a file holds an image that is not read, and no moving images that a video decoder might show.

    GIF and TIFF files, and sequences in the containers of HEIC and AVIF, are left to the video decoder.
    """
    moving = _head(path)[8:12] in (b"avis", b"msf1", b"hevc", b"hevx")
    return not moving and unread_image(path) not in (None, "GIF", "TIFF")


def _head(path: Path) -> bytes:
    try:
        with open_regular(path) as file:
            return file.read(HEAD)
    except OSError:
        return b""  # whoever opens it says why that fails


def _mode(path: Path) -> int | None:
    try:
        return path.stat().st_mode
    except (OSError, ValueError):  # ValueError: it holds a NUL
        return None


def _is_mjpeg(path: Path) -> bool:
    """Return whether at least three JPEG images follow each other in a file: a photograph may carry a preview too."""
    with open_regular(path) as file:
        images = iter(JpegStream(Bytes(file.read)))
        try:
            first, *others = (next(images) for _ in range(3))
        except StreamEnded:
            return False
    return isinstance(first, bytes) and SEVERAL_IN_ONE not in first and all(isinstance(each, bytes) for each in others)
