"""Decoding whole sets: order, corrupt pictures, digests."""

import os
from pathlib import Path

import numpy as np
import psutil
import pytest

from edge_apps.images import open_images, write_png
from edge_apps.runtime.preprocess import Preprocess, to_input
from pipeline.data.reading import digest, load_all, usable
from pipeline.data.subset import Subset
from pipeline.errors import BadImage, BadInput


@pytest.fixture
def folder(tmp_path):
    """150 pictures (more than two batches) of three classes, each of its own size and content."""
    chance = np.random.default_rng(0)
    for i in range(150):
        place = tmp_path / "set" / f"class{i % 3}"
        place.mkdir(parents=True, exist_ok=True)
        write_png(place / f"{i:03d}.png", chance.integers(0, 256, (8 + i % 5, 8 + i % 7, 3), np.uint8))
    return tmp_path / "set"


def test_load_all_keeps_order_and_labels(folder):
    images, preprocess = open_images(folder), Preprocess(height=6, width=5)
    data = load_all(images, preprocess)
    assert data.images.shape == (150, 6, 5, 3)
    assert data.labels.tolist() == list(images.labels)
    for i in (0, 63, 64, 149):
        assert (data.images[i] == to_input(images.image(i), preprocess)).all()


def test_a_corrupt_picture_is_named(folder):
    (folder / "class1" / "001.png").write_bytes(b"no picture")
    with pytest.raises(BadImage, match=r"class1/001\.png.*`skip_corrupt`"):
        load_all(open_images(folder), Preprocess(height=6, width=6))
    with pytest.raises(BadImage, match=r"class1/001\.png.*`skip_corrupt`"):
        usable(open_images(folder), skip_corrupt=False)


def test_corrupt_pictures_are_skipped_and_listed(folder):
    (folder / "class1" / "001.png").write_bytes(b"")
    whole = (folder / "class2" / "002.png").read_bytes()
    (folder / "class2" / "002.png").write_bytes(whole[: len(whole) // 2])
    images = open_images(folder)
    kept, skipped = usable(images, skip_corrupt=True)
    assert skipped == ["class1/001.png", "class2/002.png"]
    assert len(kept) == 148
    assert [kept.item_name(i) for i in range(148)] == [
        images.item_name(i) for i in range(150) if images.item_name(i) not in skipped
    ]
    assert load_all(kept, Preprocess(height=6, width=6)).labels.tolist() == list(kept.labels)


def test_a_whole_set_is_handed_back_as_it_is(folder):
    images = open_images(folder)
    assert usable(images, skip_corrupt=True) == (images, [])
    assert usable(images, skip_corrupt=False) == (images, [])


def test_nothing_usable_is_an_error(tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.jpg").write_bytes(b"\xff\xd8")
    with pytest.raises(BadInput, match="all 1 are corrupt"):
        usable(open_images(tmp_path), skip_corrupt=True)


def test_pixels_that_do_not_fit_are_refused_before_reading(folder, monkeypatch):
    memory = psutil.virtual_memory()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory._replace(available=1000))
    with pytest.raises(BadInput, match="memory"):
        load_all(open_images(folder), Preprocess(height=6, width=6))


def test_the_digest_changes_with_content_and_with_labels(folder):
    images = open_images(folder)
    before = digest(images)
    assert digest(open_images(folder)) == before
    assert digest(Subset(images, range(149))) != before
    moved = folder / "class1" / "000.png"
    (folder / "class0" / "000.png").rename(moved)
    assert digest(open_images(folder)) != before
    moved.rename(folder / "class0" / "000.png")
    assert digest(open_images(folder)) == before
    write_png(moved.with_name("001.png"), np.zeros((3, 3, 3), np.uint8))
    assert digest(open_images(folder)) != before


def test_a_name_that_is_no_utf8_has_a_digest_and_can_be_told(folder):
    odd = Path(os.fsdecode(os.fsencode(folder / "class0") + b"/x\xff.png"))
    odd.write_bytes(b"no picture")
    assert digest(open_images(folder)) == digest(open_images(folder))
    assert usable(open_images(folder), skip_corrupt=True)[1] == [r"class0/x\udcff.png"]
