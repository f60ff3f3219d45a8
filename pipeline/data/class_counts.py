"""How many images each class has, in one line: what a training starts with."""

from __future__ import annotations

from collections import Counter

from edge_apps.images import ImageSet

NAMED = 20
"""A longer list of classes is cut to half as many, with the smallest class named."""


def class_counts(images: ImageSet) -> str:
    """Return ``12 images of 2 classes: blue (6), red (6)``."""
    counts = Counter(images.labels)
    each = [(name, counts[label]) for label, name in enumerate(images.classes)]
    sizes = [count for _, count in each]
    head = f"{_count(len(images), 'image', 'images')} of {_count(len(each), 'class', 'classes')}"
    if len(each) <= NAMED:
        return f"{head}: {', '.join(f'{name} ({count:,})' for name, count in each)}"
    shown = ", ".join(f"{name} ({count:,})" for name, count in each[: NAMED // 2])
    smallest = min(each, key=lambda one: one[1])
    return (
        f"{head}, {min(sizes):,} to {max(sizes):,} each: {shown} and {len(each) - NAMED // 2:,} more "
        f"(fewest: {smallest[0]}, {smallest[1]:,})"
    )


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"
