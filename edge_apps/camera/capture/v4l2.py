"""What a video device of Linux says of itself, by the ioctls of ``linux/videodev2.h``."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

Ioctl = Callable[[int, int, bytearray], object]

CAPTURE, CAPTURE_MPLANE, HAS_DEVICE_CAPS = 0x1, 0x1000, 0x80000000
DISCRETE = 1


def _code(direction: int, number: int, size: int) -> int:
    """``_IOC`` of ``asm-generic/ioctl.h``, the same on x86 and Arm: 2 reads, 3 writes and reads."""
    return direction << 30 | size << 16 | ord("V") << 8 | number


CAPABILITY = struct.Struct("=16s32s32sIII12x")  # v4l2_capability: driver, card, bus, version, capabilities, device_caps
FORMAT = struct.Struct("=III32sI16x")  # v4l2_fmtdesc: index, type, flags, description, pixelformat
FRAME_SIZE = struct.Struct("=III6I8x")  # v4l2_frmsizeenum: index, pixel_format, type, then sizes

QUERYCAP = _code(2, 0, CAPABILITY.size)
ENUM_FMT = _code(3, 2, FORMAT.size)
ENUM_FRAMESIZES = _code(3, 74, FRAME_SIZE.size)

MOST = 256
"""Answers to one question, from a driver that never says that this was the last."""


@dataclass(frozen=True)
class Format:
    """A pixel format by its four letters, with the sizes in it: ``640x480``, or ``32x32 to 4096x4096``."""

    name: str
    sizes: tuple[str, ...]


@dataclass(frozen=True)
class Device:
    """A video node: whether pictures can be read from it, and in which formats."""

    driver: str
    card: str
    captures: bool
    formats: tuple[Format, ...]


def query(path: Path, ioctl: Ioctl | None = None) -> Device:
    """Ask a device.

    Raises:
        OSError: it cannot be opened, or is no video device.
    """
    if ioctl is None:
        import fcntl

        ioctl = fcntl.ioctl
    descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        answer = bytearray(CAPABILITY.size)
        ioctl(descriptor, QUERYCAP, answer)
        driver, card, _, _, caps, device_caps = CAPABILITY.unpack(answer)
        can = device_caps if caps & HAS_DEVICE_CAPS else caps
        kind = 1 if can & CAPTURE else 9 if can & CAPTURE_MPLANE else None  # V4L2_BUF_TYPE_VIDEO_CAPTURE(_MPLANE)
        formats = () if kind is None else tuple(_formats(descriptor, kind, ioctl))
        return Device(_text(driver), _text(card), kind is not None, formats)
    finally:
        os.close(descriptor)


def _formats(descriptor: int, kind: int, ioctl: Ioctl) -> Iterator[Format]:
    for answer in _answers(descriptor, ENUM_FMT, FORMAT, (kind,), ioctl):
        pixels = answer[4]
        name = pixels.to_bytes(4, "little").decode("ascii", "replace").strip()
        yield Format(name, tuple(_sizes(descriptor, pixels, ioctl)))


def _sizes(descriptor: int, pixels: int, ioctl: Ioctl) -> Iterator[str]:
    for _, _, kind, *size in _answers(descriptor, ENUM_FRAMESIZES, FRAME_SIZE, (pixels,), ioctl):
        if kind == DISCRETE:
            yield f"{size[0]}x{size[1]}"
        else:
            least, most, _, lowest, highest, _ = size  # widths, their step, heights, their step
            yield f"{least}x{lowest} to {most}x{highest}"
            return


def _answers(
    descriptor: int, code: int, layout: struct.Struct, question: tuple[int, ...], ioctl: Ioctl
) -> Iterator[tuple[int, ...]]:
    """Ask for number 0, 1, 2 … until there is no more."""
    for index in range(MOST):
        asked = bytearray(layout.size)
        struct.pack_into(f"={1 + len(question)}I", asked, 0, index, *question)
        try:
            ioctl(descriptor, code, asked)
        except OSError:
            return
        yield layout.unpack(asked)


def _text(data: bytes) -> str:
    return data.split(b"\0", 1)[0].decode(errors="replace").strip()
