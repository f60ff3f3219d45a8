"""Reading pictures: single files, a folder of class folders, and a tar of one, by OpenCV.

Camera and workbench read through this one door, so that an image means the same bytes to both:
uint8 ``[H, W, 3]``, RGB, EXIF orientation applied.
"""

from __future__ import annotations

import hashlib
import os
import struct
import tarfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_apps.errors import BadImage, BadInput
from edge_apps.orientation import orientation, upright

Image = NDArray[np.uint8]
"""uint8 ``[H, W, 3]``, RGB."""

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})

# OpenCV's own log lines would stand between our one-line errors; what it cannot read, it also returns or raises.
_set_log_level: Any = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel  # OpenCV 4, else 5
_set_log_level(0)


def decode(data: bytes, name: str) -> Image:
    """Decode JPEG, PNG, WebP or BMP bytes to uint8 ``[H, W, 3]`` RGB.

    OpenCV fills the missing part of a truncated JPEG with grey and raises nothing, so wholeness is checked first. Only
    the frame of a JPEG can be checked that way: damage inside its entropy-coded data (bytes lost or changed, also a
    file that was cut and then closed with an end mark) can pass as a picture with a grey or shifted part. libjpeg then
    writes a line to stderr, which OpenCV offers no way to catch and which belongs to the process, not to this call.

    Raises:
        BadImage: naming the picture and what is wrong with it.
    """
    fault = _fault(data)
    if fault:
        raise BadImage(f"Corrupt image '{name}': {fault}. Replace or remove it.")
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        bgr: Any = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        bgr = None
    if bgr is None:
        raise BadImage(f"Corrupt image '{name}': it cannot be decoded. Replace or remove it.")
    rgb: Image = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    return upright(rgb, orientation(data))


def write_png(path: Path, image: Image) -> None:
    """Write uint8 ``[H, W, 3]`` RGB as a lossless PNG."""
    ok, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not ok:
        raise BadImage(f"Cannot encode '{path}' from an array of shape {image.shape}.")
    path.write_bytes(data.tobytes())


def _fault(data: bytes) -> str | None:
    """What keeps these bytes from being a whole picture, or None."""
    if not data:
        return "it is empty"
    if data.startswith(b"\xff\xd8"):
        return _jpeg_fault(data)
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _png_fault(data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return None if len(data) >= struct.unpack("<I", data[4:8])[0] + 8 else "it is truncated"
    if data.startswith(b"BM"):
        return None if len(data) >= 6 and len(data) >= struct.unpack("<I", data[2:6])[0] else "it is truncated"
    return "it is not a JPEG, PNG, WebP or BMP file"


def _jpeg_fault(data: bytes) -> str | None:
    """Walk the segments to the first scan (thumbnails hide in them), then look for the end-of-image marker."""
    at = 2
    while at + 4 <= len(data):
        marker, length = data[at + 1], struct.unpack(">H", data[at + 2 : at + 4])[0]
        if data[at] != 0xFF or marker == 0xFF:  # stray bytes between segments, or padding: decoders pass over both
            at += 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:  # markers without a body
            at += 2
        elif marker == 0xDA:
            return None if data.find(b"\xff\xd9", at + 2 + length) >= 0 else "it is truncated"
        else:
            at += 2 + length
    return "it is truncated"


def _png_fault(data: bytes) -> str | None:
    at = 8
    while at + 12 <= len(data):
        length = struct.unpack(">I", data[at : at + 4])[0]
        body, end = data[at + 4 : at + 8 + length], at + 12 + length
        if end > len(data):
            break
        if zlib.crc32(body) != struct.unpack(">I", data[end - 4 : end])[0]:
            return "a PNG checksum does not match"
        if body[:4] == b"IEND":
            return None
        at = end
    return "it is truncated"


class ImageSet(Protocol):
    """Labelled pictures: what training, calibration and evaluation read."""

    @property
    def name(self) -> str:
        """Where the pictures come from, as the user wrote it; printable, like every name here."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; a label is an index into them."""

    @property
    def labels(self) -> tuple[int, ...]:
        """The label of each picture."""

    def __len__(self) -> int: ...

    def item_name(self, index: int) -> str:
        """A stable name of one picture, unique within the set, that can be printed and stored as UTF-8."""

    def encoded(self, index: int) -> bytes:
        """The bytes whose hash identifies the picture."""

    def image(self, index: int) -> Image:
        """uint8 ``[H, W, 3]`` RGB; raises ``BadImage``."""


def sha256(images: ImageSet, index: int) -> str:
    """The content hash that says whether two pictures are the same one."""
    return hashlib.sha256(images.encoded(index)).hexdigest()


@dataclass(frozen=True)
class FileImages:
    """Pictures as files below a folder, or as members of an uncompressed tar (read in place, never unpacked)."""

    name: str
    classes: tuple[str, ...]
    labels: tuple[int, ...]
    root: Path
    entries: tuple[_Entry, ...]

    def __len__(self) -> int:
        return len(self.entries)

    def item_name(self, index: int) -> str:
        return self.entries[index].name

    def encoded(self, index: int) -> bytes:
        entry = self.entries[index]
        try:
            if entry.offset is None:
                return (self.root / entry.path).read_bytes()
            with self.root.open("rb") as tar:  # a file handle of its own: safe in threads and after a fork
                data = os.pread(tar.fileno(), entry.size, entry.offset)
        except OSError as error:
            raise BadImage(f"Cannot read image '{entry.name}' in '{self.name}': {error.strerror}.") from error
        if len(data) < entry.size:
            raise BadImage(f"Corrupt image '{entry.name}' in '{self.name}': the tar ends inside it.")
        return data

    def image(self, index: int) -> Image:
        return decode(self.encoded(index), self.entries[index].name)


@dataclass(frozen=True)
class _Entry:
    path: str  # inside the folder or tar, "/"-separated, as the file system or tar has it
    offset: int | None  # where the bytes start in the tar; None for a file
    size: int

    @property
    def name(self) -> str:
        """The path as UTF-8; backslashes are doubled, so that no other path can look like an escaped one."""
        return printable(self.path.replace("\\", "\\\\"))


def printable(name: str) -> str:
    """A file's name as text that can be printed and stored, even where its bytes are no UTF-8."""
    return name.encode("utf-8", "backslashreplace").decode()


def open_images(path: Path) -> FileImages:
    """Open a folder of class folders, or a tar of one.

    The class of a picture is its first folder; a single folder around all class folders (``test/cat/1.jpg``) is
    looked through. Names that start with a dot, files of other types and links to folders are passed over.

    Raises:
        BadInput: no such path, no picture, a picture outside a class folder, a compressed or broken tar.
    """
    entries = _entries(path)
    if not entries:
        raise BadInput(
            f"No pictures in '{path}': expected a folder of class folders (or a tar of one) with "
            f"{', '.join(sorted(SUFFIXES))} files."
        )
    parts = [PurePosixPath(entry.name).parts for entry in entries]
    depth = 1 if all(len(p) >= 3 for p in parts) and len({p[0] for p in parts}) == 1 else 0
    for entry, p in zip(entries, parts, strict=True):
        if len(p) < depth + 2:
            raise BadInput(
                f"Picture '{entry.name}' in '{path}' is in no class folder: arrange it as <class>/<picture>."
            )
    classes = tuple(sorted({p[depth] for p in parts}))
    index = {name: i for i, name in enumerate(classes)}
    labels = tuple(index[p[depth]] for p in parts)
    return FileImages(printable(str(path)), classes, labels, path, tuple(entries))


def list_pictures(path: Path) -> FileImages:
    """Every picture below a folder or in a tar, in name order, without classes (all labels 0): camera frames."""
    entries = _entries(path)
    if not entries:
        raise BadInput(f"No pictures in '{path}': expected {', '.join(sorted(SUFFIXES))} files.")
    return FileImages(printable(str(path)), ("",), (0,) * len(entries), path, tuple(entries))


def _entries(path: Path) -> Sequence[_Entry]:
    if path.is_dir():
        found = [_Entry(f.relative_to(path).as_posix(), None, 0) for f in path.rglob("*") if f.is_file()]
    elif path.is_file() and _is_picture(PurePosixPath(path.name)):
        raise BadInput(f"'{path}' is a single picture: give the folder that holds it, or a tar of one.")
    elif path.is_file():
        found = _tar_entries(path)
    else:
        raise BadInput(f"No such folder or tar: '{path}'.")
    return sorted((entry for entry in found if _is_picture(PurePosixPath(entry.path))), key=lambda entry: entry.path)


def _tar_entries(path: Path) -> list[_Entry]:
    try:
        with path.open("rb") as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
            members = [(str(PurePosixPath(member.name)), _stored(tar, member)) for member in tar]
            stream.seek(tar.offset)
            if stream.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
                raise tarfile.ReadError("it ends without its end mark: it is truncated")  # tarfile says nothing
    except (tarfile.TarError, KeyError, EOFError, OSError) as error:
        raise BadInput(
            f"Cannot read '{path}' as an uncompressed tar ({error}): give a folder, or a whole uncompressed .tar."
        ) from error
    # A name that occurs again replaces the earlier member, as unpacking would.
    return list({name: _Entry(name, m.offset_data, m.size) for name, m in members if m is not None}.values())


def _stored(tar: tarfile.TarFile, member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """The member whose bytes lie in the tar as they are: the file itself, or what a hard link stands for."""
    if member.islnk():
        member = tar.getmember(member.linkname)
    if member.issparse() and _is_picture(PurePosixPath(member.name)):
        raise tarfile.ReadError(f"'{member.name}' is stored sparse")
    return member if member.isreg() else None


def _is_picture(path: PurePosixPath) -> bool:
    return path.suffix.lower() in SUFFIXES and not any(part.startswith(".") for part in path.parts)
