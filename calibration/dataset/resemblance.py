"""Find images of one set that are probably images of another, encoded anew: a perceptual hash compared in bulk.

``duplicates.py`` finds what is too alike to calibrate with, within one set of some hundred images. Here a few
thousand evaluation images meet each of 50,000 training images, so the hash is longer and the threshold is stricter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.dataset.duplicates import coefficients
from edge_apps.images import Image

BITS = 128
"""Of a signature: 16 bytes."""

APART = 10
"""Two images are probably the same one where at most this many of the 128 bits differ: where 92 % are equal.

Measured: how many are found again after a change, of 43 photos (most 150 to 500 px high), of the same at 64×64, and of
500 of CIFAR-10's test images (32 px).

=================================  ======  =====  =========
change                             photos  64 px  CIFAR-10
=================================  ======  =====  =========
JPEG of quality 80, or of 60       100 %   100 %  100 %
scaled by 0.9                      100 %   100 %  too small
both: scaled, then JPEG of 80      100 %   100 %  too small
=================================  ======  =====  =========

False alarms: of the 5 · 10⁸ pairs of CIFAR-10's 10,000 test and 50,000 training images 50 are this near. All that were
looked at, the 24 least alike by their pixels, are the same photo by eye, which that data is known for: fewer than 1 in
10⁸ is unlike. The nearest of 903 pairs of unlike photos differ in 44 bits. Digits are not compared (``coefficients``).
Images of one scene by one camera may all be this near: what is found is worth a look, not a refusal.
"""

_BLOCK = 256
"""Images compared with all others at once: 50 MB against 50,000."""

_ROWS, _COLUMNS = np.array(
    sorted(((y, x) for y in range(32) for x in range(32)), key=lambda place: (sum(place), place))[1 : BITS + 1]
).T

_MIRRORED = np.where(_COLUMNS % 2, -1, 1).astype(np.float32)


@dataclass(frozen=True)
class Resemblance:
    """The image ``index`` of one set looks like the image ``other`` of another; ``bits`` of their signatures differ."""

    index: int
    other: int
    bits: int


def signature(image: Image) -> bytes | None:
    """Return a 128-bit perceptual hash of an image, uint8 ``[H, W, 3]``; None where it is too small to be compared.

    Each bit says whether one of the 128 lowest coefficients of the DCT (by the sum of their two frequencies, the mean
    left out) is above their median.
    """
    return both_signatures(image)[0]


def both_signatures(image: Image) -> tuple[bytes | None, bytes | None]:
    """Return the ``signature`` of an image, and that of the image mirrored left to right.

    Mirroring changes the sign of every coefficient with an odd horizontal frequency, and nothing else.
    """
    waves = coefficients(image)
    if waves is None:
        return None, None
    lowest = waves[_ROWS, _COLUMNS]
    return _above_median(lowest), _above_median(lowest * _MIRRORED)


def _above_median(values: NDArray[np.float32]) -> bytes:
    return np.packbits(values > np.median(values)).tobytes()


def resembling(signatures: Sequence[bytes | None], others: Sequence[bytes | None]) -> Iterator[Resemblance]:
    """Yield the images that look like one of ``others``, in order, each with the one that it is most like."""
    mine, its = _comparable(signatures), _comparable(others)
    if not mine or not its:
        return
    signs = _signs([others[index] for index in its])
    for start in range(0, len(mine), _BLOCK):
        block = mine[start : start + _BLOCK]
        # Of vectors of ±1 the product is equal bits less different ones.
        products = _signs([signatures[index] for index in block]) @ signs.T
        for index, row, nearest in zip(block, products, products.argmax(axis=1), strict=True):
            bits = (BITS - int(row[nearest])) // 2
            if bits <= APART:
                yield Resemblance(index, its[int(nearest)], bits)


def _comparable(signatures: Sequence[bytes | None]) -> list[int]:
    return [index for index, one in enumerate(signatures) if one is not None]


def _signs(signatures: Sequence[bytes | None]) -> NDArray[np.float32]:
    """Bits as −1 and 1, float32 ``[n, 128]``."""
    packed = np.frombuffer(b"".join(filter(None, signatures)), np.uint8).reshape(-1, BITS // 8)
    return np.unpackbits(packed, axis=1).astype(np.float32) * 2 - 1
