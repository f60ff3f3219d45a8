"""The recorded calibration set: which images, why, their hashes, and that none is an evaluation image."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from calibration.dataset.hygiene import Replaced, clean, warnings_about
from calibration.dataset.sampling import ClassBalanced, Draw, FarthestFirst, check_enough
from calibration.errors import BadCalibration
from calibration.recipe import Recipe
from edge_apps.images import ImageSet, sha256

Features = Callable[[Sequence[int]], NDArray[np.float32]]
"""Indices of n pictures → what the network's last layer sees in them, float32 ``[n, D]``."""

POOL, POOL_PER_IMAGE = 4096, 4
"""Features are computed of at most the larger of: this many pictures, and this many for each image asked for."""


class CalibrationImage(msgspec.Struct, frozen=True):
    """One image: its name in the data, its class, the hash of its content, and of its look (hexadecimal).

    signature: None where images of its kind are not compared by their look, and in sets of earlier versions.
    """

    name: str
    label: str
    sha256: str
    signature: str | None = None


class CalibrationSet(msgspec.Struct, frozen=True, kw_only=True):
    """What calibrated a network; travels in the bundle.

    compared: how many of the images were compared with each other by their look; the rest are too small for it. None
    in sets of versions that compared none. replaced: what was drawn first and left out. warnings: what to know of this
    set, a sentence each.
    """

    source: str
    how: str
    seed: int
    images: tuple[CalibrationImage, ...]
    compared: int | None = None
    replaced: tuple[Replaced, ...] = ()
    warnings: tuple[str, ...] = ()

    def class_counts(self) -> dict[str, int]:
        """Images per class."""
        return dict(sorted(Counter(image.label for image in self.images).items()))

    def digest(self) -> str:
        """One hash over all content hashes, in order."""
        return hashlib.sha256("".join(image.sha256 for image in self.images).encode()).hexdigest()


def choose(
    images: ImageSet, recipe: Recipe, features: Features | None = None, *, labels: Sequence[str] = ()
) -> tuple[CalibrationSet, list[int]]:
    """Draw a calibration set as the recipe says, clean it and record it; also returns its indices, ascending.

    The draw depends on the recipe and the order of the data alone. Every picture drawn is decoded once. ``features``
    is called once, for ``feature-coverage``, with the indices of the pool: all pictures, or a class-balanced draw of
    them where they are more than ``POOL`` and than ``POOL_PER_IMAGE`` for each image asked for. ``labels``: the
    classes that the network knows, by the names that the data has for them; without, all classes of the data.

    Raises:
        BadCalibration: too few images, most images constant or normalised before they were saved,
            features that are no numbers. BadImage: a picture drawn cannot be decoded.
    """
    recipe = recipe.fitted(len(images))
    count = recipe.images or 0
    check_enough(len(images), count)
    draw, how = _draw(images, recipe, count, features)
    cleaned = clean(images, draw, draw.take(count))
    chosen = CalibrationSet(
        source=images.name,
        how=how,
        seed=recipe.seed,
        images=tuple(
            CalibrationImage(
                images.item_name(index),
                images.classes[images.labels[index]],
                look.sha256,
                None if look.signature is None else look.signature.hex(),
            )
            for index, look in zip(cleaned.indices, cleaned.looks, strict=True)
        ),
        compared=cleaned.compared(),
        replaced=cleaned.replaced,
        warnings=(*cleaned.warnings, *warnings_about(cleaned.indices, cleaned.looks, images, labels)),
    )
    return chosen, cleaned.indices


def _draw(images: ImageSet, recipe: Recipe, count: int, features: Features | None) -> tuple[Draw, str]:
    if recipe.choice == "class-balanced":
        return ClassBalanced(images.labels, recipe.seed), "class-balanced random"
    if features is None:
        raise TypeError("feature-coverage needs the network's features of the pictures")
    size = min(len(images), max(POOL, POOL_PER_IMAGE * count))
    pool = ClassBalanced(images.labels, recipe.seed).take(size)
    draw = FarthestFirst(pool, features(pool), recipe.seed)
    return draw, f"feature-coverage (k-centre greedy) among {size} of {len(images)} images"


def check_disjoint(chosen: CalibrationSet, evaluation: ImageSet) -> None:
    """Refuse to judge on images that calibrated: they are compared by content, not by name.

    Raises:
        BadCalibration: naming how many images are shared and the first of them.
    """
    calibrated = {image.sha256: image.name for image in chosen.images}
    hashes = (sha256(evaluation, index) for index in range(len(evaluation)))
    shared = [(index, calibrated[content]) for index, content in enumerate(hashes) if content in calibrated]
    if shared:
        index, name = shared[0]
        raise BadCalibration(
            f"{len(shared)} of {len(evaluation)} evaluation images in '{evaluation.name}' were used for calibration "
            f"(first: '{evaluation.item_name(index)}' is '{name}'). Give `data` with images that neither trained nor "
            "calibrated: divide the folder before training, as docs/training.md shows, train and export with `data` of "
            "the one part, and evaluate and gate with `data` of the other."
        )
