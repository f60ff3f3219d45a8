"""Whether the classes of some data are those that a network was, or can be, trained for."""

from __future__ import annotations

from itertools import zip_longest

from edge_apps.images import ImageSet
from pipeline.errors import BadInput
from pipeline.weights import imagenet


def check_classes(images: ImageSet, labels: tuple[str, ...]) -> None:
    """Hold the data's class names against a checkpoint's labels, order included; ``BadInput`` where they differ.

    ImageNet's folders are named by WordNet ids, which stand for its labels.
    """
    if images.classes == labels or (images.classes == imagenet.wordnet_ids() and labels == imagenet.labels()):
        return
    differences = [
        f"class {i} is {_quoted(have)}, expected {_quoted(want)}"
        for i, (have, want) in enumerate(zip_longest(images.classes, labels))
        if have != want
    ]
    shown = "; ".join(differences[:3]) + ("; …" if len(differences) > 3 else "")
    raise BadInput(
        f"'{images.name}' has {len(images.classes)} classes, the checkpoint has {len(labels)}: {shown}. Use the data "
        "that the checkpoint was trained for, or train a checkpoint for this data."
    )


def check_known_classes(images: ImageSet, labels: tuple[str, ...]) -> None:
    """``BadInput`` unless every class of the data is one of the labels, in any order and not necessarily all of them.

    For calibration, which asks what pictures look like and not what they show.
    """
    known = {*labels, *(imagenet.wordnet_ids() if labels == imagenet.labels() else ())}
    if not known.issuperset(images.classes):
        check_classes(images, labels)


def names_in(images: ImageSet, labels: tuple[str, ...]) -> tuple[str, ...]:
    """A checkpoint's labels by the names that the data has for them: WordNet ids in folders of ImageNet."""
    ids = imagenet.wordnet_ids() if labels == imagenet.labels() else ()
    return ids if set(images.classes) & set(ids) else labels


def check_trainable(images: ImageSet) -> None:
    """``BadInput`` where fewer than two classes have pictures: nothing could be learned."""
    if len(set(images.labels)) < 2:
        raise BadInput(
            f"'{images.name}' has pictures of one class only ('{images.classes[images.labels[0]]}'): a classifier "
            "needs at least two class folders."
        )


def _quoted(name: str | None) -> str:
    return "missing" if name is None else f"'{name}'"
