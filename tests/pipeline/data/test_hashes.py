"""Hashes of a set of images: small, exact about content, and refused where they are damaged."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import numpy as np
import pytest

from calibration.dataset.resemblance import signature
from edge_apps.images import FileImages, open_images, write_png
from pipeline.data import open_data
from pipeline.data.hashes import ImageHashes, hash_images
from pipeline.data.reading import digest


@pytest.fixture
def images(tmp_path: Path) -> FileImages:
    """Five images that can be compared by their look and one that is too small."""
    chance = np.random.default_rng(0)
    for i in range(6):
        folder = tmp_path / "ab"[i % 2]
        folder.mkdir(exist_ok=True)
        side = 16 if i == 4 else 40
        write_png(folder / f"{i}.png", chance.integers(0, 256, (side, side, 3), np.uint8))
    return open_images(tmp_path)


def test_each_image_has_its_content_and_its_look(images: FileImages) -> None:
    hashes = hash_images(images)
    assert hashes.data == digest(images)
    assert hashes.content_set() == {hashlib.sha256(images.encoded(i)).digest()[:8] for i in range(6)}
    assert hashes.signatures() == [signature(images.image(i)) for i in range(6)]
    assert hashes.signatures().count(None) == 1


def test_it_takes_32_bytes_an_image_in_json(images: FileImages) -> None:
    hashes = hash_images(images)
    text = msgspec.json.encode(hashes)
    assert len(text) < 32 * 6 + 110
    assert msgspec.convert(msgspec.json.decode(text), ImageHashes) == hashes


def test_digits_have_contents_only() -> None:
    hashes = hash_images(open_data("digits", "calibration"))
    assert len(hashes.content_set()) == 250
    assert not any(hashes.signatures())


@pytest.mark.parametrize(("contents", "looks"), [(7, 16), (8, 15), (8, 32), (16, 16)])
def test_a_damaged_record_is_refused(contents: int, looks: int) -> None:
    with pytest.raises(ValueError, match=f"{contents} bytes of contents and {looks} of looks belong to no images"):
        ImageHashes(data="", contents=bytes(contents), looks=bytes(looks))
