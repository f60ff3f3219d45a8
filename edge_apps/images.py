"""Reading pictures: single files, a folder of class folders, and a tar of one, by OpenCV.

Camera and workbench read through this one door, so that an image means the same bytes to both:
uint8 ``[H, W, 3]``, RGB, EXIF orientation applied.
"""

from __future__ import annotations

import errno
import hashlib
import os
import struct
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_apps.class_folders import find_class_folders
from edge_apps.errors import BadImage
from edge_apps.file_names import printable as printable  # those who open images print their names
from edge_apps.image_formats import HEAD, format_of
from edge_apps.image_parts import EOI, SOS, jpeg_segments, png_chunks
from edge_apps.image_size import LARGEST_FILE, too_large
from edge_apps.image_tree import ImageFile, read_tree, shown_path
from edge_apps.orientation import orientation, upright
from edge_apps.split_names import Use
from edge_apps.untrusted import TooLarge, open_regular, read_regular

Image = NDArray[np.uint8]
"""uint8 ``[H, W, 3]``, RGB."""

# OpenCV's own log lines would stand between our one-line errors; what it cannot read, it also returns or raises.
_set_log_level: Any = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel  # OpenCV 4, else 5
_set_log_level(0)


class TooLargeImage(ValueError):
    """An image of more pixels, bytes or scans than are decoded."""


def decode(data: bytes, name: str) -> Image:
    """Decode JPEG, PNG, WebP or BMP bytes to uint8 ``[H, W, 3]`` RGB.

    OpenCV fills the missing part of a truncated JPEG with grey and raises nothing, so wholeness is checked first. Only
    the frame of a JPEG can be checked that way: damage inside its entropy-coded data (bytes lost or changed, also a
    file that was cut and then closed with an end mark) can pass as a picture with a grey or shifted part. libjpeg then
    writes a line to stderr, which OpenCV offers no way to catch and which belongs to the process, not to this call.

    Raises:
        BadImage: naming the image and what is wrong with it, also where it would take too much memory.
    """
    try:
        if (fault := _fault(data)) is not None:
            raise ValueError(fault)
        return decode_unchecked(data)
    except TooLargeImage as error:
        raise BadImage(f"Image '{name}' is too large: {error}. Scale it down, or remove it.") from None
    except ValueError as error:
        raise BadImage(f"Corrupt image '{name}': {error}. Replace or remove it.") from error


def decode_unchecked(data: bytes) -> Image:
    """Decode as ``decode`` does, but also an image that may be cut short, as those of cameras are.

    Raises:
        TooLargeImage: it takes more memory or time than an image may. ValueError: it cannot be decoded. Clauses, both.
    """
    if (fault := too_large(data)) is not None:
        raise TooLargeImage(fault)
    try:
        bgr: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        bgr = None
    if bgr is None:
        raise ValueError("it cannot be decoded")
    rgb: Image = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    del bgr  # large images have no room for a third copy
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
    found = format_of(data[:HEAD])
    return f"it is {f'a file in {found} format, ' if found else ''}not a JPEG, PNG, WebP or BMP file"


def _jpeg_fault(data: bytes) -> str | None:
    """Walk the segments to the first scan (thumbnails hide in them), then look for the end-of-image marker."""
    scan = next((segment for segment in jpeg_segments(data) if segment.marker == SOS), None)
    return None if scan is not None and data.find(bytes((0xFF, EOI)), scan.end) >= 0 else "it is truncated"


def _png_fault(data: bytes) -> str | None:
    view = memoryview(data)  # its slices are no copies
    for name, start, end in png_chunks(data):
        if end + 4 > len(data):
            break
        if zlib.crc32(view[start - 4 : end]) != int.from_bytes(view[end : end + 4], "big"):
            return "a PNG checksum does not match"
        if name == b"IEND":
            return None
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
    """Images as files below a folder, or as members of an uncompressed tar (read in place, never unpacked).

    remarks: what a user should know of the folder, such as files that are passed over; a sentence each.
    """

    name: str
    classes: tuple[str, ...]
    labels: tuple[int, ...]
    root: Path
    entries: tuple[ImageFile, ...]
    remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.entries)

    def item_name(self, index: int) -> str:
        return self.entries[index].name

    def encoded(self, index: int) -> bytes:
        entry = self.entries[index]
        try:
            if entry.offset is None:
                return read_regular(self.root / entry.path, LARGEST_FILE)
            if entry.size > LARGEST_FILE:
                raise TooLarge(errno.EFBIG, f"it has {entry.size:,} bytes, and at most {LARGEST_FILE:,} are read")
            with open_regular(self.root) as tar:  # a file handle of its own: safe in threads and after a fork
                data = os.pread(tar.fileno(), entry.size, entry.offset)
        except OSError as error:
            raise BadImage(f"Cannot read image '{entry.name}' in '{self.name}': {error.strerror}.") from error
        if len(data) < entry.size:
            raise BadImage(f"Corrupt image '{entry.name}' in '{self.name}': the tar ends inside it.")
        return data

    def image(self, index: int) -> Image:
        return decode(self.encoded(index), self.entries[index].name)


def open_images(path: Path, use: Use | None = None) -> FileImages:
    """Open a folder of class folders, or a tar of one.

    Links are followed, a folder around all class folders is looked through, and of folders named train, val and test
    the one for ``use`` is read. Files that a system made and names that start with a dot are passed over; images in
    formats that are not read are named in ``remarks``.

    Raises:
        BadInput: what ``read_tree`` and ``find_class_folders`` raise.
    """
    tree = read_tree(path)
    found = find_class_folders(tree, printable(str(path)), use)
    images = FileImages(printable(str(path)), found.classes, found.labels, path, found.images, found.remarks)
    return _inside(images, found.split) if found.split else images


def _inside(images: FileImages, split: str) -> FileImages:
    """The same images, named as when the folder for training or testing itself is given."""
    if not images.root.is_dir():
        return replace(images, name=f"{images.name}/{shown_path(split)}")
    root = images.root / split
    entries = tuple(replace(entry, path=entry.path[len(split) + 1 :]) for entry in images.entries)
    return replace(images, name=printable(str(root)), root=root, entries=entries)


def list_pictures(path: Path) -> FileImages:
    """Every image below a folder or in a tar, in name order, without classes (all labels 0): camera frames.

    Raises:
        BadInput: what ``read_tree`` raises.
    """
    tree = read_tree(path)
    count = len(tree.images)
    return FileImages(printable(str(path)), ("",), (0,) * count, path, tree.images, tree.remarks())
