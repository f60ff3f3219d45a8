"""``pipeline export`` judges what it wrote: what it says, when it stops, and what it keeps all the same."""

# ruff: noqa: ARG001 - fixtures that make the small family and the fake target known are asked for, not used

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_apps.runtime.manifest import load_bundle

Run = Callable[..., Any]


def wrong(batch: np.ndarray) -> np.ndarray:
    """Two logits that are not the network's."""
    return batch.mean(axis=(1, 2))[:, :2].astype(np.float32)


def test_a_file_that_does_not_compute_its_network_stops_the_export(
    export: Run, fake_runtime: Callable[..., None], place: Path
) -> None:
    fake_runtime(wrong)
    ended = export()
    assert ended.status == 1
    last = ended.err.splitlines()[-1]
    assert last.startswith("Error: 'small-fp32.fake' reaches ")
    assert (
        "with the float network; fp32 should reach 60 dB (32 held-out images; the first operator that departs " in last
    )
    assert last.endswith("No bundle was written. To keep such a file all the same: --allow-mismatch small-fp32.fake.")
    assert list(place.iterdir()) == []


def test_it_is_kept_where_the_user_asks(
    export: Run, fake_runtime: Callable[..., None], pipeline: Run, place: Path, small_pictures: Path
) -> None:
    fake_runtime(wrong)
    ended = export("--allow-mismatch", "small-fp32.fake")
    assert ended.status == 0, ended.err
    assert "Kept because of --allow-mismatch." in ended.out
    (file,) = load_bundle(place / "b").models()
    assert (file.comparison.word, file.comparison.allowed, file.comparison.departs_at) == ("bad", True, None)
    evaluated = pipeline("evaluate", place / "b", "--data", small_pictures)
    assert "'small-fp32.fake' was kept at export although it does not compute its network" in evaluated.out


def test_only_a_file_to_write_can_be_allowed(export: Run, place: Path) -> None:
    said = export("--allow-mismatch", "small-fp32.pte").error()
    assert said == "Error: --allow-mismatch 'small-fp32.pte' is none of the files to write: small-fp32.fake."
    assert list(place.iterdir()) == []


def test_a_calibration_set_of_all_images_is_judged_on_itself(export: Run, place: Path) -> None:
    ended = export("--precision", "int8", "--calibration-size", 40)
    assert ended.status == 0, ended.err
    assert "Judged on 32 of the calibration images (the data has too few to hold any back)" in ended.out
    assert load_bundle(place / "b").models()[0].comparison.judged_on == "calibration"


def test_without_a_number_calibration_takes_what_there_is(
    pipeline: Run, fake_family: Any, small_family: Any, small_checkpoint: Path, small_pictures: Path, place: Path
) -> None:
    """40 images: 10 are held back to judge the files, 30 calibrate."""
    arguments = ("--data", small_pictures, "--target", "fake", "--precision", "int8", "--out", place / "b")
    ended = pipeline("export", small_checkpoint, *arguments)
    assert ended.status == 0, ended.err
    assert "Calibrated on 30 of 40 images." in ended.err
    assert "Judged on 10 images that calibrated nothing" in ended.out
    assert "images = 30" in (place / "b" / "recipe.toml").read_text()


@pytest.mark.parametrize(("images", "status"), [(3, 2), (4, 0)])
def test_a_floor_under_the_calibration_set(
    pipeline: Run, fake_family: Any, small_family: Any, small_checkpoint: Path, pictures: Path, place: Path,
    images: int, status: int,
) -> None:  # fmt: skip
    for label, kept in (("blue", images - 1), ("red", 1)):
        for path in sorted((pictures / label).iterdir())[kept:]:
            path.unlink()
    arguments = ("--data", pictures, "--target", "fake", "--precision", "int8", "--out", place / "b")
    ended = pipeline("export", small_checkpoint, *arguments)
    assert ended.status == status, ended.err
    if status:
        assert "The data has 3 images; at least 4 are needed to calibrate int8 files" in ended.error()


def test_float_files_need_no_images(
    pipeline: Run, fake_family: Any, small_family: Any, small_checkpoint: Path, place: Path
) -> None:
    arguments = ("--target", "fake", "--precision", "fp32", "--out", place / "b")
    ended = pipeline("export", small_checkpoint, *arguments)
    assert ended.status == 0, ended.err
    assert "Judged on 16 images of noise (no --data was given)" in ended.out
    assert load_bundle(place / "b").models()[0].comparison.judged_on == "noise"
    assert "Missing --data" in pipeline("export", small_checkpoint, *arguments[:2], "--out", place / "c").error()
