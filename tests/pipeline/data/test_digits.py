"""The built-in digits: the recorded split, and what is drawn from it."""

import hashlib
from collections import Counter

import msgspec
import numpy as np
import pytest
from sklearn.datasets import load_digits

from edge_apps.images import sha256
from pipeline.data import digits
from pipeline.errors import BadInput

NAMES = ("train", "calibration", "test")


def test_the_splits_are_whole_disjoint_and_stratified():
    splits = {name: digits.open_split(name) for name in NAMES}
    assert {name: len(split) for name, split in splits.items()} == {"train": 1097, "calibration": 250, "test": 450}
    assert sorted(i for split in splits.values() for i in split.indices) == list(range(1797))
    whole = Counter(load_digits().target.tolist())
    for split in splits.values():
        share = len(split) / 1797
        assert all(abs(count - whole[c] * share) < 2 for c, count in Counter(split.labels).items())


def test_no_two_splits_share_a_picture():
    hashes = [{sha256(split, i) for i in range(len(split))} for split in map(digits.open_split, NAMES)]
    assert sum(map(len, hashes)) == len(set.union(*hashes))


def test_the_record_can_be_made_again():
    assert digits.propose_split() == digits.recorded_split()


def test_a_picture_is_scikit_learns_digit_enlarged():
    split = digits.open_split("test")
    source = load_digits()
    for i in (0, 17, 449):
        levels = source.images[split.indices[i]]
        picture = split.image(i)
        assert picture.shape == (96, 96, 3)
        assert picture.dtype == np.uint8
        assert split.labels[i] == source.target[split.indices[i]]
        assert split.encoded(i) == bytes(levels.astype(np.uint8).ravel().tolist())
        assert (picture == picture[:, :, :1]).all()
        grey = np.floor(levels * 255 / 16 + 0.5)
        assert _bilinear(grey, 96) == pytest.approx(picture[:, :, 0].astype(float), abs=1.0)


def _bilinear(levels, side):
    """Half-pixel centres, edges repeated: the textbook formula, one output pixel at a time."""
    n = len(levels)
    out = np.empty((side, side))
    place = np.clip((np.arange(side) + 0.5) * n / side - 0.5, 0, n - 1)
    low = np.floor(place).astype(int)
    high, share = np.minimum(low + 1, n - 1), place - low
    for y in range(side):
        top = levels[low[y], low] * (1 - share) + levels[low[y], high] * share
        bottom = levels[high[y], low] * (1 - share) + levels[high[y], high] * share
        out[y] = top * (1 - share[y]) + bottom * share[y]
    return out


def test_levels_spread_over_the_whole_byte():
    levels = np.arange(17, dtype=np.uint8)
    flat = [int(digits.draw(np.full((8, 8), level, np.uint8))[0, 0, 0]) for level in levels]
    assert flat == [round(level * 255 / 16 + 1e-9) for level in range(17)]


def test_other_source_data_are_refused(monkeypatch):
    levels, labels = digits.all_digits()
    changed = levels.copy()
    changed[digits.open_split("test").indices[3], 0, 0] ^= 1
    monkeypatch.setattr(digits, "all_digits", lambda: (changed, labels))
    with pytest.raises(BadInput, match="scikit-learn's digits are not those"):
        digits.open_split("test")
    digits.open_split("train")


def test_another_enlargement_is_refused(monkeypatch):
    draw = digits.draw
    monkeypatch.setattr(digits, "draw", lambda levels: draw(levels) // 2)
    with pytest.raises(BadInput, match=r"OpenCV .* enlarges"):
        digits.open_split("calibration")


def test_fewer_digits_are_refused(monkeypatch):
    levels, labels = digits.all_digits()
    monkeypatch.setattr(digits, "all_digits", lambda: (levels[:100], labels[:100]))
    with pytest.raises(BadInput, match="has 100 digits"):
        digits.open_split("test")


def test_digests_are_plain_sha256():
    split = digits.open_split("test")
    recorded = digits.recorded_split().splits["test"]
    assert recorded.levels_sha256 == hashlib.sha256(b"".join(split.encoded(i) for i in range(450))).hexdigest()
    drawn = b"".join(split.image(i).tobytes() for i in range(450))
    assert recorded.pixels_sha256 == hashlib.sha256(drawn).hexdigest()


def test_the_record_says_how_pictures_are_drawn():
    recorded = msgspec.to_builtins(digits.recorded_split())
    assert (recorded["side"], recorded["interpolation"]) == (96, "INTER_LINEAR_EXACT")
