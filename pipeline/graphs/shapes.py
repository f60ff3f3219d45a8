"""The shapes of a graph's tensors, as rewrites read them."""

from __future__ import annotations

from typing import Any

from pipeline.compat.torch import length_of

FREE = -1
"""A side of any length, as that of the batch in a network that takes any number of images."""

Shape = tuple[int, ...]


class FreeSide(Exception):
    """Images lie along another axis than the first, as in attention with tokens in front, ``[T, N, C]``."""


def sides_of(value: Any) -> Shape:
    """Return the shape of a node's tensor, with ``FREE`` for each side that has no fixed length."""
    lengths = map(length_of, value.meta["val"].shape)
    return tuple(FREE if length is None else length for length in lengths)


def shape_of(value: Any) -> Shape:
    """Return the shape of a node's tensor in which images lie along the first axis, which counts as ``FREE``.

    Raises:
        FreeSide: another side is free.
    """
    lengths = sides_of(value)[1:]
    if FREE in lengths:
        raise FreeSide
    return FREE, *lengths


def several_free(*shapes: Shape) -> bool:
    """Whether one of these shapes has more than one free side, so that a reshape to it is not determined."""
    return any(shape.count(FREE) > 1 for shape in shapes)
