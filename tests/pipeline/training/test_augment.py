"""Augmentations keep what they promise."""

import pytest
import torch

from pipeline.training.augment import AUGMENTATIONS, affine, crop, flip_crop, unchanged


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def _noise(n=16, height=32, width=24):
    return torch.randint(0, 256, (n, height, width, 3), dtype=torch.uint8, generator=_generator(9))


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("shape", [(16, 32, 24), (1, 32, 32), (2, 5, 1), (3, 1, 1)])
def test_shape_and_type_stay_and_the_seed_decides(name, shape):
    batch = _noise(*shape)
    before = batch.clone()
    augment = AUGMENTATIONS[name]
    first = augment(batch, _generator(1))
    assert first.shape == batch.shape
    assert first.dtype == torch.uint8
    assert torch.equal(batch, before)
    assert torch.equal(first, augment(batch, _generator(1)))
    if name != "none" and shape[0] > 2 and shape[1] > 1:
        assert not torch.equal(first, augment(batch, _generator(2)))


def test_none_changes_nothing():
    batch = _noise()
    assert torch.equal(unchanged(batch, _generator()), batch)


@pytest.mark.parametrize(("augment", "may_flip"), [(crop, False), (flip_crop, True)])
def test_every_picture_is_a_mirrored_crop_of_itself(augment, may_flip):
    """Each result is found among all crops of the picture padded by torch's own reflection."""
    batch = _noise(40)
    height, width, down, right = 32, 24, 4, 3
    padded = torch.nn.functional.pad(batch.permute(0, 3, 1, 2).float(), (right, right, down, down), mode="reflect")
    found, flips = set(), 0
    for picture, wide in zip(augment(batch, _generator(3)).permute(0, 3, 1, 2).float(), padded, strict=True):
        places = [
            (y, x, flip)
            for y in range(2 * down + 1)
            for x in range(2 * right + 1)
            for flip in (False, True)
            if torch.equal(picture, (c := wide[:, y : y + height, x : x + width]) if not flip else c.flip(2))
        ]
        assert len(places) == 1
        found.add(places[0][:2])
        flips += places[0][2]
    assert len(found) > 20
    assert 8 < flips < 32 if may_flip else flips == 0


def test_pixels_of_a_crop_stay_together():
    """Red, green and blue of a pixel are never parted."""
    batch = _noise()
    batch[..., 1], batch[..., 2] = batch[..., 0] ^ 85, batch[..., 0] ^ 255
    out = flip_crop(batch, _generator())
    assert torch.equal(out[..., 1], out[..., 0] ^ 85)
    assert torch.equal(out[..., 2], out[..., 0] ^ 255)


def test_affine_moves_little_and_lets_black_in():
    """The centre of mass of a white square moves by at most the shift, its area by at most the scale."""
    batch = torch.zeros(64, 96, 96, 3, dtype=torch.uint8)
    batch[:, 36:60, 36:60] = 255
    moved = affine(batch, _generator())[..., 0].double() / 255
    place = torch.arange(96, dtype=torch.double) + 0.5
    area = moved.sum((1, 2))
    down = (moved.sum(2) * place).sum(1) / area - 48
    right = (moved.sum(1) * place).sum(1) / area - 48
    most = 0.08 * 96 * 1.12 + 0.5
    assert down.abs().max() <= most
    assert right.abs().max() <= most
    assert down.std() > 2
    assert right.std() > 2
    assert 0.87**2 < area.min().item() / 24**2 < 0.95
    assert 1.05 < area.max().item() / 24**2 < 1.14**2
    assert moved[:, :8].max() == 0


def test_affine_turns_without_shear_on_a_picture_that_is_not_square():
    """A turned square keeps its second moments equal on both axes: a shear or a stretch would not."""
    batch = torch.zeros(32, 60, 120, 3, dtype=torch.uint8)
    batch[:, 18:42, 48:72] = 255
    moved = affine(batch, _generator(4))[..., 0].double()
    rows, columns = torch.arange(60, dtype=torch.double), torch.arange(120, dtype=torch.double)
    area = moved.sum((1, 2))
    down, right = moved.sum(2) / area[:, None], moved.sum(1) / area[:, None]
    high = (down * rows**2).sum(1) - (down * rows).sum(1) ** 2
    wide = (right * columns**2).sum(1) - (right * columns).sum(1) ** 2
    assert (high / wide - 1).abs().max() < 0.02
