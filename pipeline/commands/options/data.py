"""Options that name images."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_apps.images import ImageSet
    from pipeline.checkpoints.checkpoint import Checkpoint

DATA_HELP = (
    "'digits', a folder of class folders, or an uncompressed tar of one. Of a folder that holds train, val and test "
    "the one for this use is read; see docs/data.md."
)


def calibration_images(text: str, checkpoint: Checkpoint, skip_corrupt: bool) -> tuple[ImageSet, list[str]]:
    """The pictures to draw from, of classes that the checkpoint knows; also the names of those left out."""
    from pipeline.data import open_data
    from pipeline.data.classes import check_classes
    from pipeline.data.reading import usable

    images = open_data(text, "calibration")
    check_classes(images, checkpoint.labels)
    return usable(images, True) if skip_corrupt else (images, [])
