"""A draw of pictures, as many of each class, none of which was used for something else."""

from __future__ import annotations

from collections.abc import Container

from calibration.sampling import ClassBalanced
from edge_apps.images import ImageSet, sha256
from pipeline.data.subset import Subset
from pipeline.errors import BadInput


def held_out(images: ImageSet, count: int, seed: int, used: Container[str]) -> Subset:
    """At most ``count`` pictures, class counts as equal as the data allows, by a seeded draw.

    A picture whose content hash is in ``used``, or that was drawn already under another name, makes room for another.

    Raises:
        BadInput: no picture is left.
    """
    draw = ClassBalanced(images.labels, seed)
    waiting = draw.take(min(count, len(images)))[::-1]
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
