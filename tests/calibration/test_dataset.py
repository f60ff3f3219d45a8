import hashlib
from pathlib import Path

import numpy as np
import pytest

from calibration.dataset import check_disjoint, choose
from calibration.errors import BadCalibration
from edge_apps.images import open_images, write_png


def folder(root: Path, first: int, count: int) -> Path:
    for label in ("cat", "dog"):
        (root / label).mkdir(parents=True)
        for i in range(count):
            picture = np.full((8, 8, 3), first + i, np.uint8)
            picture[0, 0] = 1 if label == "cat" else 2
            write_png(root / label / f"{i}.png", picture)
    return root


def test_records_what_was_drawn(tmp_path: Path) -> None:
    images = open_images(folder(tmp_path / "a", 0, 5))
    chosen, indices = choose(images, 4, seed=0)
    assert chosen.class_counts() == {"cat": 2, "dog": 2}
    for entry, index in zip(chosen.images, indices, strict=True):
        assert entry.name == images.item_name(index)
        assert entry.sha256 == hashlib.sha256((tmp_path / "a" / entry.name).read_bytes()).hexdigest()
    assert chosen.digest() == choose(images, 4, seed=0)[0].digest()
    assert chosen.digest() != choose(images, 4, seed=1)[0].digest()


def test_overlap_is_found_by_content_not_by_name(tmp_path: Path) -> None:
    chosen, _ = choose(open_images(folder(tmp_path / "a", 0, 3)), 6, seed=0)
    check_disjoint(chosen, open_images(folder(tmp_path / "b", 100, 3)))  # the same names, other pictures
    shared = folder(tmp_path / "c", 100, 3)
    (shared / "cat" / "renamed.png").write_bytes((tmp_path / "a" / "cat" / "1.png").read_bytes())
    with pytest.raises(BadCalibration, match=r"1 of 7 evaluation images .*'cat/renamed.png' is 'cat/1.png'"):
        check_disjoint(chosen, open_images(shared))
