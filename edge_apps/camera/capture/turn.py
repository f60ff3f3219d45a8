"""Turning and mirroring: for a camera that hangs upside down, or shows people themselves."""

from __future__ import annotations

from dataclasses import dataclass

import cv2

from edge_apps.images import Image

_ROTATIONS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}


@dataclass(frozen=True)
class Turn:
    """Clockwise degrees (0, 90, 180 or 270), and whether left and right are exchanged afterwards."""

    degrees: int = 0
    mirror: bool = False

    def __call__(self, image: Image) -> Image:
        """uint8 ``[H, W, 3]``, contiguous; the array itself where there is nothing to turn."""
        turned = cv2.rotate(image, _ROTATIONS[self.degrees]) if self.degrees else image
        return cv2.flip(turned, 1) if self.mirror else turned  # type: ignore[return-value]
