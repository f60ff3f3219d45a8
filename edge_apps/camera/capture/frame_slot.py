"""One slot of shared memory that holds the latest frame: a writer process, a reader process, nobody waits.

::

    memory 0   | header: sequence, times, size | pixels, uint8 [H, W, 3] RGB |
    memory 1   | ...                                                         |
    memory 2   | ...                                                         |

The writer fills a memory that is neither the latest nor just being read, the reader copies the latest. Each memory is
guarded by a lock of the kernel (``fcntl``), tried and never waited for: of three there is always one for the writer.
The kernel's locks also order the memory accesses of two cores, which Python cannot, and die with the process that
holds them. A memory has no name: when both processes are gone, killed or not, nothing of it is left.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy as np

from edge_apps.images import Image

MEMORIES = 3

HEADER = struct.Struct("<qdqqqq")
"""sequence (0: nothing, or a frame that was never finished), captured_at, born_ns, decode_ns, height, width."""

PIXELS = 64
"""Where they start: a whole cache line after the header."""


@dataclass(frozen=True)
class Shared:
    """A frame on its way between two processes; its ``sequence`` counts from 1 and belongs to the writer."""

    sequence: int
    captured_at: float
    born_ns: int
    decode_ns: int
    image: Image


class Memory:
    """One memory of the slot, mapped as far as it reaches."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.mapped = mmap.mmap(descriptor, PIXELS)

    @contextmanager
    def locked(self) -> Iterator[bool]:
        """Try to own the memory; whether that was possible. Mapped to its full size."""
        # Before the lock: closing any mapping of a file gives up the locks that this process holds on it.
        self._map_all()
        try:
            fcntl.lockf(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)
        except (BlockingIOError, PermissionError):
            yield False
            return
        try:
            yield True
        finally:
            with suppress(OSError):
                fcntl.lockf(self.descriptor, fcntl.LOCK_UN, 1)

    def grow(self, size: int) -> None:
        """Make room for ``size`` bytes; ``OSError`` where the machine has not so much memory."""
        if len(self.mapped) < size:
            _allocate(self.descriptor, size)
            self._map_all()

    def close(self) -> None:
        """Give it up."""
        self.mapped.close()
        os.close(self.descriptor)

    def _map_all(self) -> None:
        size = os.fstat(self.descriptor).st_size
        if size != len(self.mapped):
            self.mapped.close()
            self.mapped = mmap.mmap(self.descriptor, size)


class Writer:
    """The side that captures."""

    def __init__(self, descriptors: list[int]) -> None:
        self._memories = [Memory(descriptor) for descriptor in descriptors]
        self._latest: Memory | None = None
        self._sequence = 0

    def write(self, image: Image, captured_at: float, born_ns: int, decode_ns: int) -> None:
        """Make this the latest frame; never waits. ``OSError`` where the machine has no memory for it."""
        height, width = image.shape[:2]
        for memory in self._memories:
            if memory is self._latest:
                continue
            memory.grow(PIXELS + image.nbytes)
            with memory.locked() as mine:
                if not mine:
                    continue
                self._sequence += 1
                HEADER.pack_into(memory.mapped, 0, 0, 0.0, 0, 0, 0, 0)  # until all of it is there, it is no frame
                pixels = np.frombuffer(memory.mapped, np.uint8, image.size, PIXELS).reshape(image.shape)
                np.copyto(pixels, image)
                del pixels
                HEADER.pack_into(memory.mapped, 0, self._sequence, captured_at, born_ns, decode_ns, height, width)
                self._latest = memory
                return


class Reader:
    """The side that classifies. ``descriptors`` are handed to the writer's process."""

    def __init__(self) -> None:
        self.descriptors = [_new_memory() for _ in range(MEMORIES)]
        self._memories = [Memory(descriptor) for descriptor in self.descriptors]

    def newest(self, after: int) -> Shared | None:
        """A copy of the latest whole frame, if it is newer than number ``after``."""
        best: Memory | None = None
        for memory in self._memories:
            with memory.locked() as mine:
                if mine and (sequence := HEADER.unpack_from(memory.mapped)[0]) > after:
                    best, after = memory, sequence
        return None if best is None else _copy(best, after)

    def close(self) -> None:
        """Give the memory back; it is free once the writer is gone too."""
        for memory in self._memories:
            memory.close()


def _copy(memory: Memory, at_least: int) -> Shared | None:
    """Another frame may be there by now: only ever a newer one. None while that is being written."""
    with memory.locked() as mine:
        if not mine:
            return None
        sequence, captured_at, born_ns, decode_ns, height, width = HEADER.unpack_from(memory.mapped)
        size = height * width * 3
        if sequence < at_least or min(height, width) <= 0 or PIXELS + size > len(memory.mapped):
            return None
        image = np.frombuffer(memory.mapped, np.uint8, size, PIXELS).reshape(height, width, 3).copy()
        return Shared(sequence, captured_at, born_ns, decode_ns, image)


def _new_memory() -> int:
    """A descriptor of memory without a name."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("edge-camera frame")
    else:  # off Linux: a file that nobody can find
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    _allocate(descriptor, PIXELS)
    return descriptor


def _allocate(descriptor: int, size: int) -> None:
    """Claim the pages now: writing to a page that the machine cannot give would end the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.ftruncate(descriptor, size)
