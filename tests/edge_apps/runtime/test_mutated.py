"""Real files with damaged bytes, tried out: each is refused in one line or runs, and never ends this process."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from edge_apps.errors import BadInput
from edge_apps.runtime.content import Content
from edge_apps.runtime.manifest import Bundle
from edge_apps.runtime.trial import try_out


def damaged(data: bytes, seed: int) -> bytes:
    """Some bytes exchanged: anywhere, or where tables lie, at the start and at the end."""
    chance, damaged = random.Random(seed), bytearray(data)
    for _ in range(chance.choice([1, 2, 5, 20, 100])):
        start, end = chance.choice([(0, len(data)), (0, 4_000), (max(0, len(data) - 60_000), len(data))])
        damaged[chance.randrange(start, min(end, len(data)))] = chance.choice([0, 1, 127, 128, 255])
    return bytes(damaged)


def check(demo_bundle: Bundle, suffix: str, seed: int) -> None:
    data = (demo_bundle.root / f"mobilenet_v2-int8{suffix}").read_bytes()
    said = f"'damaged{suffix}' runs"
    try:
        try_out(Content(Path(f"damaged{suffix}"), {"": damaged(data, seed)}))
    except BadInput as error:
        said = str(error)
    assert f"damaged{suffix}" in said
    assert "\n" not in said


@pytest.mark.parametrize("seed", range(8))
def test_damaged_tflite(demo_bundle: Bundle, seed: int) -> None:
    check(demo_bundle, ".tflite", seed)


@pytest.mark.parametrize("seed", range(2))
def test_damaged_pte(demo_bundle: Bundle, seed: int) -> None:
    check(demo_bundle, ".pte", seed)


@pytest.mark.long
@pytest.mark.parametrize("suffix", [".tflite", ".pte"])
def test_400_damaged_files(demo_bundle: Bundle, suffix: str) -> None:
    for seed in range(400):
        check(demo_bundle, suffix, 1_000 + seed)
