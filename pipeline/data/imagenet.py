"""The 1,000 classes of ILSVRC 2012, in the order of the logits of every published weight set.

``imagenet-classes.txt`` has a line for each: its WordNet id, by which ImageNet's folders are named, and its name. The
names are torchvision's (``torchvision.models._meta``, torchvision 0.28, BSD 3-Clause, copyright Soumith Chintala 2016),
which tell the two cranes and the two maillots apart.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

CLASSES = 1000


def labels() -> tuple[str, ...]:
    """The class names, each once."""
    return tuple(name for _, name in _table())


def wordnet_ids() -> tuple[str, ...]:
    """The classes' WordNet ids, which are in ascending order."""
    return tuple(wordnet_id for wordnet_id, _ in _table())


@cache
def _table() -> tuple[tuple[str, str], ...]:
    text = (resources.files("pipeline.data") / "imagenet-classes.txt").read_text("utf-8")
    pairs = (line.partition(" ") for line in text.splitlines())
    return tuple((wordnet_id, name) for wordnet_id, _, name in pairs)
