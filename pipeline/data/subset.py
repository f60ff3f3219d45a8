"""Some pictures of a set, as a set of their own."""

from __future__ import annotations

from collections.abc import Sequence

from edge_apps.images import Image, ImageSet


class Subset:
    """A view of ``images`` that holds the pictures at ``indices``, in that order; classes stay the same."""

    def __init__(self, images: ImageSet, indices: Sequence[int], name: str | None = None) -> None:
        self._images = images
        self._indices = tuple(indices)
        self._name = images.name if name is None else name
        labels = images.labels
        self._labels = tuple(labels[i] for i in self._indices)

    @property
    def name(self) -> str:
        """The name of the whole set, unless another was given."""
        return self._name

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names of the whole set, those without a picture here included."""
        return self._images.classes

    @property
    def labels(self) -> tuple[int, ...]:
        """The label of each picture of the view."""
        return self._labels

    def __len__(self) -> int:
        return len(self._indices)

    def item_name(self, index: int) -> str:
        """The picture's name in the whole set."""
        return self._images.item_name(self._indices[index])

    def encoded(self, index: int) -> bytes:
        """The bytes whose hash identifies the picture."""
        return self._images.encoded(self._indices[index])

    def image(self, index: int) -> Image:
        """uint8 ``[H, W, 3]`` RGB; raises ``BadImage``."""
        return self._images.image(self._indices[index])
