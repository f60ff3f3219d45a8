"""Pictures that look alike: a perceptual hash, and the distance below which two pictures are one."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_apps.images import Image

ALIKE = 8
"""Two pictures are near-duplicates when at most this many of the 63 bits differ.

Measured on 43 photos and their quarters (215 pictures, most 150 to 500 px high), the same at 64×64, and on 2,000 of
CIFAR-10's training pictures (32 px): how many of them are recognised after a change.

=========================  ======  ======  =========
change                     photos  64 px   CIFAR-10
=========================  ======  ======  =========
JPEG of quality 60         100 %   99.5 %  100 %
scaled by 0.8              100 %   99.5 %  too small
brighter by 10 %           100 %   100 %   100 %
a row and a column cut     100 %   99 %    too small
moved by a pixel           100 %   89 %    25 %
moved by two pixels        98 %    29 %    0.3 %
=========================  ======  ======  =========

Of unlike pictures, none of 23,005 pairs of photos is this near (the nearest differ in 12 bits), and 16 of 50 million
pairs of CIFAR-10: 0.2 in a draw of 1,024. Another 29 pairs there are near-duplicates by eye, which that data has. With
10 bits most of the pairs found are unlike.
"""

SMALLEST_SIDE = 32
"""Smaller pictures are not compared: there unlike ones look alike."""

LEAST_DETAIL = 0.06
"""Nor are pictures that were enlarged from smaller ones, known by how little they hold beyond 16×16.

The share is of amplitudes: root of the energy outside the lowest 16×16 DCT coefficients of 32×32, over that of all but
the mean. Measured: at most 0.033 for scikit-learn's 8×8 digits drawn at 96×96 (where 22 of 31,125 pairs would be taken
for near-duplicates) and 0.064 for pictures enlarged from 8×8; at least 0.152 for photos; above it for all but 2 of
10,000 of CIFAR-10's own 32×32. What was enlarged from 16 px is compared or not, from 28 px it mostly is.
"""

BITS = 63
"""Of a fingerprint."""


def fingerprint(image: Image) -> int | None:
    """A 63-bit perceptual hash of a picture, uint8 ``[H, W, 3]``; None where it is too small to be told by its look.

    The picture is shrunk to 32×32 grey values and transformed (DCT); each bit says whether one of the lowest 8×8
    coefficients, the mean left out, is above their median. Rescaling, recompression and brightness hardly change it.
    Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010, DCT hash; there the grey
    picture is smoothed by a 7×7 mean before it is shrunk, here shrinking is by areas.
    """
    waves = coefficients(image)
    if waves is None:
        return None
    lowest = waves[:8, :8].ravel()[1:]
    bits = "".join("1" if high else "0" for high in lowest > np.median(lowest))
    return int(bits, 2)


def coefficients(image: Image) -> NDArray[np.float32] | None:
    """Return the DCT of an image shrunk to 32×32 grey values, its mean set to 0: float32 ``[32, 32]``, low ones first.

    None where unlike images look alike: where it is small, or holds little beyond 16×16.
    """
    if min(image.shape[:2]) < SMALLEST_SIDE:
        return None
    grey: Any = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    waves: Any = cv2.dct(small)
    waves[0, 0] = 0
    energy = np.square(waves, dtype=np.float64)
    beyond = energy.sum() - energy[:16, :16].sum()
    found: NDArray[np.float32] | None = None if beyond <= LEAST_DETAIL**2 * energy.sum() else waves
    return found


def distance(one: int, other: int) -> int:
    """How many bits of two fingerprints differ."""
    return (one ^ other).bit_count()
