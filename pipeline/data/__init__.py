"""Labelled images by what the user typed: ``digits``, a folder of class folders, or a tar of one."""

from __future__ import annotations

from pathlib import Path

from edge_apps import progress
from edge_apps.images import ImageSet, open_images
from edge_apps.split_names import Use
from pipeline.data import digits

_DIGITS_FOR: dict[Use, str] = {"val": "test"}


def open_data(text: str, use: Use, *, say: bool = True) -> ImageSet:
    """Open the images that ``--data`` names; ``say`` what a user should know of their folder on stderr.

    ``digits`` is the built-in data, of which the split for ``use`` is read; ``digits:test`` names a split outright.
    Anything else is a path; where it holds folders for training and testing, the one for ``use`` is read.

    Raises:
        BadInput: unknown split, and what ``open_images`` raises.
    """
    name, _, named_split = text.partition(":")
    if name == "digits":
        return digits.open_split(named_split or _DIGITS_FOR.get(use, use))
    images = open_images(Path(text), use)
    for remark in images.remarks if say else ():
        progress.note(remark)
    return images
