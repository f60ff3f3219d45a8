"""A draw of pictures, as many of each class, none of which calibrated anything."""

from __future__ import annotations

from collections.abc import Collection

from calibration.dataset.dataset import CalibrationSet
from calibration.dataset.sampling import ClassBalanced
from edge_apps.images import ImageSet, sha256
from pipeline.data.subset import Subset
from pipeline.errors import BadInput


def held_out(
    images: ImageSet, count: int, seed: int, calibrated: CalibrationSet, besides: Collection[str] = ()
) -> Subset:
    """At most ``count`` pictures, class counts as equal as the data allows, by a seeded draw.

    A picture whose content calibrated, or that was drawn already under another name, makes room for another; so does
    one whose sha256 is among ``besides``.

    Raises:
        BadInput: no picture is left.
    """
    draw = ClassBalanced(images.labels, seed)
    waiting = draw.take(min(count, len(images)))[::-1]
    used = {image.sha256 for image in calibrated.images} | set(besides)
    kept: dict[str, int] = {}
    while waiting:
        index = waiting.pop()
        content = sha256(images, index)
        if content not in used and content not in kept:
            kept[content] = index
        elif (other := draw.another(index)) is not None:
            waiting.append(other)
    if not kept:
        raise BadInput(f"'{images.name}' has no pictures but those used for calibration: give others.")
    return Subset(images, sorted(kept.values()))
