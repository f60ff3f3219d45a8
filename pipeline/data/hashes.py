"""Hashes of every image of a set, small enough to travel in a checkpoint: which images trained this network?"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import msgspec

from calibration.dataset.resemblance import BITS, both_signatures, signature
from edge_apps.images import ImageSet
from pipeline.data.reading import decode_all, digest

CONTENT = 8
"""Bytes of an image's sha256 that are kept. With 50,000 training and 10,000 other images the probability that two
unlike ones share them is 3 · 10⁻¹¹."""

LOOK = BITS // 8
"""Bytes of an image's signature."""

_NOT_COMPARED = bytes(LOOK)  # no signature: half of its bits are 1


class ImageHashes(msgspec.Struct, frozen=True, kw_only=True):
    """Content and look of every image of a set, in its order: 24 bytes an image, 32 as JSON (1.6 MB of 50,000).

    ``data`` is the digest of the whole set, ``contents`` the start of each image's sha256, ``looks`` each image's
    perceptual hash (``calibration.dataset.resemblance``), zeros where it is too small to be compared.
    """

    data: str
    contents: bytes
    looks: bytes

    def __post_init__(self) -> None:
        """Refuse a damaged record; ``ValueError``."""
        if len(self.contents) % CONTENT or len(self.contents) * LOOK != len(self.looks) * CONTENT:
            raise ValueError(
                f"{len(self.contents)} bytes of contents and {len(self.looks)} of looks belong to no images"
            )

    def content_set(self) -> frozenset[bytes]:
        """The contents, to look one up."""
        return frozenset(self.contents[start : start + CONTENT] for start in range(0, len(self.contents), CONTENT))

    def signatures(self) -> list[bytes | None]:
        """Each image's signature; None where it has none."""
        looks = (self.looks[start : start + LOOK] for start in range(0, len(self.looks), LOOK))
        return [None if look == _NOT_COMPARED else look for look in looks]


def hash_images(images: ImageSet) -> ImageHashes:
    """Decode and hash every image; raises ``BadImage``."""
    return ImageHashes(
        data=digest(images),
        contents=b"".join(content_hash(images, index) for index in range(len(images))),
        looks=b"".join(look or _NOT_COMPARED for look in signatures(images)),
    )


def content_hash(images: ImageSet, index: int) -> bytes:
    """The start of the sha256 of the bytes that identify an image."""
    return hashlib.sha256(images.encoded(index)).digest()[:CONTENT]


def signatures(images: ImageSet) -> Iterator[bytes | None]:
    """Decode every image and yield its signature; raises ``BadImage``."""
    return decode_all(lambda index: signature(images.image(index)), len(images), f"Hashing {images.name}")


def both_signatures_of(images: ImageSet) -> Iterator[tuple[bytes | None, bytes | None]]:
    """Decode every image and yield its signature and that of its mirror image; raises ``BadImage``."""
    return decode_all(lambda index: both_signatures(images.image(index)), len(images), f"Hashing {images.name}")
