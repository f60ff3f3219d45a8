"""Each picture once: a copy of one says nothing new, yet would make every interval narrower."""

from __future__ import annotations

from edge_apps.images import ImageSet, sha256
from pipeline.data.subset import Subset
from pipeline.errors import BadInput


def distinct(images: ImageSet) -> tuple[ImageSet, tuple[str, ...]]:
    """The pictures without repetitions, by content, and the names of those left out.

    Of copies in one class the first stays. Of a picture that lies in several classes none stays: which of its labels
    is right is not known.

    Raises:
        BadInput: nothing is left.
    """
    copies: dict[str, list[int]] = {}
    for index in range(len(images)):
        copies.setdefault(sha256(images, index), []).append(index)
    labels = images.labels
    kept = sorted(same[0] for same in copies.values() if len({labels[index] for index in same}) == 1)
    if len(kept) == len(images):
        return images, ()
    if not kept:
        raise BadInput(f"Every picture of '{images.name}' lies in several classes: sort them into one class each.")
    left_out = sorted(set(range(len(images))) - set(kept))
    return Subset(images, kept), tuple(images.item_name(index) for index in left_out)
