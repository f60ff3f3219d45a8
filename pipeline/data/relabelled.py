"""The images of a set under other classes, as a set of their own."""

from __future__ import annotations

from collections.abc import Sequence

from edge_apps.images import Image, ImageSet


class Relabelled:
    """A view of ``images`` with the classes ``classes``; their class i is now class ``index_of[i]``."""

    def __init__(self, images: ImageSet, classes: tuple[str, ...], index_of: Sequence[int]) -> None:
        self._images = images
        self._classes = classes
        self._labels = tuple(index_of[label] for label in images.labels)

    @property
    def name(self) -> str:
        """The name of the set."""
        return self._images.name

    @property
    def classes(self) -> tuple[str, ...]:
        """The new class names, those without an image here included."""
        return self._classes

    @property
    def labels(self) -> tuple[int, ...]:
        """The label of each image, an index into the new class names."""
        return self._labels

    def __len__(self) -> int:
        return len(self._images)

    def item_name(self, index: int) -> str:
        """The image's name in the set."""
        return self._images.item_name(index)

    def encoded(self, index: int) -> bytes:
        """The bytes whose hash identifies the image."""
        return self._images.encoded(index)

    def image(self, index: int) -> Image:
        """uint8 ``[H, W, 3]`` RGB; raises ``BadImage``."""
        return self._images.image(index)
