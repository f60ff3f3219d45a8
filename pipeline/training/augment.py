"""Random changes of a batch of pictures that leave their class as it is; uint8 in, uint8 out, whole batches at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional

from pipeline.training.settings import Augmentation

Augment = Callable[[torch.Tensor, torch.Generator], torch.Tensor]
"""uint8 ``[N, H, W, 3]`` to the same shape; all chance comes from the generator, a CPU one."""

CROP_SHARE = 1 / 8
"""A crop moves by up to this share of the side: the 4 of 32 pixels usual on CIFAR."""

TURN_DEGREES, SHIFT_SHARE, SCALE_SHARE = 12.0, 0.08, 0.12
"""The largest turn, shift and change of size of ``affine``: a written 6 stays a 6."""


def unchanged(batch: torch.Tensor, generator: torch.Generator) -> torch.Tensor:  # noqa: ARG001 - an Augment
    """The batch as it is."""
    return batch


def crop(batch: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Move each picture by its own offset; what enters at an edge is the picture mirrored there."""
    rows, columns = _offsets(batch, generator)
    return _pick(batch, rows, columns)


def flip_crop(batch: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """``crop``, and every second picture, by chance, mirrored left to right."""
    rows, columns = _offsets(batch, generator)
    flipped = torch.rand(len(batch), 1, generator=generator) < 0.5
    return _pick(batch, rows, torch.where(flipped, columns.flip(1), columns))


def affine(batch: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Turn, shift and scale each picture a little; black enters from outside. For characters."""
    n, height, width, _ = batch.shape
    turn, scale, right, down = (2 * torch.rand(4, n, generator=generator) - 1).unbind()
    angle, scale = turn * torch.pi / 180 * TURN_DEGREES, 1 + scale * SCALE_SHARE
    cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
    # Coordinates of affine_grid run over −1…1 on both axes: a turn in pixels carries the aspect ratio.
    matrix = torch.stack(
        (cos, -sin * height / width, 2 * SHIFT_SHARE * right, sin * width / height, cos, 2 * SHIFT_SHARE * down), 1
    ).view(n, 2, 3)
    grid = functional.affine_grid(matrix.to(batch.device), [n, 3, height, width], align_corners=False)
    moved = functional.grid_sample(batch.permute(0, 3, 1, 2).float(), grid, align_corners=False)
    return moved.round_().to(torch.uint8).permute(0, 2, 3, 1)


AUGMENTATIONS: dict[Augmentation, Augment] = {
    "none": unchanged,
    "crop": crop,
    "flip-crop": flip_crop,
    "affine": affine,
}


def _offsets(batch: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Source rows ``[N, H]`` and columns ``[N, W]`` of shifted pictures, mirrored at the edges."""
    n, height, width, _ = batch.shape
    indices = []
    for side in (height, width):
        most = int(side * CROP_SHARE)
        shifted = torch.arange(side) + torch.randint(-most, most + 1, (n, 1), generator=generator)
        indices.append((side - 1) - ((side - 1) - shifted.abs()).abs())
    return indices[0], indices[1]


def _pick(batch: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    n = torch.arange(len(batch), device=batch.device)[:, None, None]
    return batch[n, rows.to(batch.device)[:, :, None], columns.to(batch.device)[:, None, :]]
