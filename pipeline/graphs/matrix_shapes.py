"""Which tensors can be multiplied as batches of matrices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.graphs.shapes import FREE, sides_of


def agree(tensors: Sequence[Any]) -> bool:
    """Whether all tensors have the same axes in front of their matrices, and matrices of fixed sides."""
    shapes = [sides_of(tensor) for tensor in tensors]
    fronts = {shape[:-2] for shape in shapes}
    fixed = all(shape.count(FREE) <= 1 and FREE not in shape[-2:] and len(shape) > 2 for shape in shapes)
    return fixed and len(fronts) == 1
