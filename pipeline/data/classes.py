"""Classes of data and classes of a network, matched by their names: the one place where a label becomes an index."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence

from edge_apps.file_names import listed
from edge_apps.images import ImageSet
from edge_apps.suggestions import nearest
from pipeline.data import imagenet
from pipeline.data.relabelled import Relabelled
from pipeline.errors import BadInput

NAMED = 5
"""So many classes are named in an error; the rest are counted."""


def matched(images: ImageSet, labels: tuple[str, ...]) -> ImageSet:
    """Return the images with ``labels`` as their classes: a label of the result is an index into ``labels``.

    The order of the folders does not matter, and the data may lack classes (``absent_classes``). ImageNet's folders,
    which are named by WordNet ids, stand for its labels.

    Raises:
        BadInput: the data has a class that is none of ``labels``.
    """
    check_classes(images, labels)
    if images.classes == labels:
        return images
    index = _index_by_name(labels)
    return Relabelled(images, labels, [index[_composed(name)] for name in images.classes])


def check_classes(images: ImageSet, labels: tuple[str, ...]) -> None:
    """Raise ``BadInput`` unless every class of the data is one of the labels, in any order, not necessarily all."""
    index = _index_by_name(labels)
    unknown = [name for name in images.classes if _composed(name) not in index]
    if not unknown:
        return
    missing = absent_classes(images, labels)
    said = f"No folder for: {_some(missing)}. " if missing else ""
    said += f"Unknown folder{'s' if len(unknown) > 1 else ''}: {_some(unknown)}."
    raise BadInput(
        f"The classes of '{images.name}' are not those of the network. {said}{_closest(unknown, missing or labels)} "
        "Rename the folders, or use data of the network's classes."
    )


def absent_classes(images: ImageSet, labels: tuple[str, ...]) -> tuple[str, ...]:
    """Return the labels that the data has no folder for, in their order."""
    index = _index_by_name(labels)
    present = {index.get(_composed(name)) for name in images.classes}
    return tuple(label for number, label in enumerate(labels) if number not in present)


def coverage(images: ImageSet, labels: tuple[str, ...]) -> tuple[str, ...]:
    """Return a sentence that says which labels the data has no folder for; nothing where it has all."""
    absent = absent_classes(images, labels)
    if not absent:
        return ()
    return (
        f"'{images.name}' has no folder for {len(absent)} of {len(labels)} classes: {_some(absent)}. Nothing is "
        f"measured on {'it' if len(absent) == 1 else 'them'}.",
    )


def order_of(labels: Sequence[str], wanted: Sequence[str]) -> list[int] | None:
    """Return where each of ``wanted`` stands in ``labels``; None where they are not the same names."""
    index = {_composed(label): number for number, label in enumerate(labels)}
    places = [index.get(_composed(label)) for label in wanted]
    known = [place for place in places if place is not None]
    return known if len(known) == len(labels) == len(wanted) else None


def names_in(images: ImageSet, labels: tuple[str, ...]) -> tuple[str, ...]:
    """Return a network's labels by the names that the data has for them, such as WordNet ids in folders of ImageNet.

    A label that the data has no folder for is named as the others are.
    """
    ids = imagenet.wordnet_ids() if labels == imagenet.labels() else ()
    names = ids if set(images.classes) & set(ids) else labels
    given = {_composed(name): name for name in images.classes}
    return tuple(given.get(_composed(name), name) for name in names)


def check_trainable(images: ImageSet) -> None:
    """Raise ``BadInput`` where fewer than two classes have images: nothing could be learned."""
    if len(set(images.labels)) < 2:
        raise BadInput(
            f"'{images.name}' has pictures of one class only ('{images.classes[images.labels[0]]}'): a classifier "
            "needs at least two class folders."
        )


def check_every_class(images: ImageSet) -> None:
    """Raise ``BadInput`` where a class has no image: a network would be trained never to answer it."""
    present = set(images.labels)
    empty = [name for number, name in enumerate(images.classes) if number not in present]
    if empty:
        raise BadInput(
            f"'{images.name}' has no usable image of {listed(empty, NAMED)}: training needs images of every class."
        )


def _index_by_name(labels: tuple[str, ...]) -> Mapping[str, int]:
    """The index of a label by every name that a folder may have for it."""
    ids = imagenet.wordnet_ids() if labels == imagenet.labels() else ()
    names = [(_composed(name), number) for named in (ids, labels) for number, name in enumerate(named)]
    return dict(names)


def _composed(name: str) -> str:
    """As ``class_folders.class_name`` composes letters; labels may come from elsewhere."""
    return unicodedata.normalize("NFC", name)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def _closest(unknown: Sequence[str], labels: Sequence[str]) -> str:
    """Suggest the label that an unknown folder probably stands for; nothing where none is like it."""
    lower = {label.casefold(): label for label in labels}
    for name in unknown:
        near = nearest(name.casefold(), lower)
        if near is not None:
            return f" Did you mean '{lower[near]}' by '{name}'?"
    return ""
