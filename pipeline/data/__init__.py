"""Labelled pictures by what the user typed: ``digits``, a folder of class folders, or a tar of one."""

from __future__ import annotations

from pathlib import Path

from edge_apps.images import ImageSet, open_images
from pipeline.data import digits


def open_data(text: str, split: str) -> ImageSet:
    """Open the pictures that ``--data`` names.

    ``digits`` is the built-in data; ``split`` (train, calibration or test) is what the verb reads of it, and
    ``digits:test`` names a split outright. Anything else is a path, and ``split`` says nothing about it.

    Raises:
        BadInput: unknown split, no such path, no pictures.
    """
    name, _, named_split = text.partition(":")
    if name == "digits":
        return digits.open_split(named_split or split)
    return open_images(Path(text))
