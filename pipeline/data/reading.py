"""Decoding whole sets, in threads: which pictures are usable, and all pixels in one array."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import psutil
from numpy.typing import NDArray
from rich.markup import escape
from rich.progress import track

from edge_apps.console import progress
from edge_apps.images import Image, ImageSet
from edge_apps.runtime.preprocess import Preprocess, to_input
from pipeline.data.subset import Subset
from pipeline.errors import BadImage, BadInput

T = TypeVar("T")

BATCH = 64
"""Pictures that a thread takes at a time."""


@dataclass(frozen=True)
class Pixels:
    """A whole set in memory: ``images`` uint8 ``[N, H, W, 3]`` RGB, ``labels`` int64 ``[N]``."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


def usable(images: ImageSet, skip_corrupt: bool) -> tuple[ImageSet, list[str]]:
    """Decode every picture once; return those that decode, and the names of those that do not.

    Raises:
        BadImage: a corrupt picture, unless ``skip_corrupt``. BadInput: nothing is left.
    """

    def decodes(index: int) -> bool:
        try:
            _decoded(images, index)
        except BadImage:
            if not skip_corrupt:
                raise
            return False
        return True

    decoded = list(in_threads(decodes, len(images), f"Checking {images.name}"))
    kept = [index for index, good in enumerate(decoded) if good]
    if not kept:
        raise BadInput(f"No usable picture in '{images.name}': all {len(images)} are corrupt.")
    if len(kept) == len(images):
        return images, []
    return Subset(images, kept), [images.item_name(index) for index, good in enumerate(decoded) if not good]


def load_all(images: ImageSet, preprocess: Preprocess) -> Pixels:
    """Decode and preprocess a whole set into memory (50,000 pictures at 64×64 are 614 MB).

    Raises:
        BadImage: a corrupt picture. BadInput: the pixels do not fit into this machine's free memory.
    """
    shape = (len(images), preprocess.height, preprocess.width, 3)
    size, free = int(np.prod(shape, dtype=np.int64)), psutil.virtual_memory().available
    if size > free:
        raise BadInput(
            f"'{images.name}' is {size / 1e9:.1f} GB as {preprocess.height}×{preprocess.width} pixels; "
            f"{free / 1e9:.1f} GB of memory are free. Choose a smaller `input` or fewer pictures."
        )
    pixels = np.empty(shape, np.uint8)

    def load(index: int) -> None:
        pixels[index] = to_input(_decoded(images, index), preprocess)

    for _ in in_threads(load, len(images), f"Reading {images.name}"):
        pass
    return Pixels(pixels, np.asarray(images.labels, np.int64))


def digest(images: ImageSet) -> str:
    """sha256 over classes, and over label, name and content of every picture, in order."""
    whole = hashlib.sha256(repr(images.classes).encode())
    for index, label in enumerate(images.labels):
        content = hashlib.sha256(images.encoded(index)).hexdigest()
        whole.update(f"{label} {images.item_name(index)} {content}\n".encode())
    return whole.hexdigest()


def _decoded(images: ImageSet, index: int) -> Image:
    try:
        return images.image(index)
    except BadImage as error:
        raise BadImage(f"{error} Or leave such pictures out with `skip_corrupt`.") from error


def in_threads(work: Callable[[int], T], count: int, title: str) -> Iterator[T]:
    """Results in order. Threads suffice: OpenCV gives the interpreter lock back while it decodes."""

    def batch(start: int) -> list[T]:
        return [work(index) for index in range(start, min(start + BATCH, count))]

    starts, console = range(0, count, BATCH), progress()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            batches = pool.map(batch, starts)
            for done in track(batches, escape(title), len(starts), console=console, disable=not console.is_terminal):
                yield from done
        except BaseException:  # the rest of the pictures is of no use any more
            pool.shutdown(wait=False, cancel_futures=True)
            raise
