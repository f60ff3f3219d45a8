"""``pipeline calibrate --compare`` and ``--curve`` as they are typed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from calibration.recipe import Observer
from pipeline.quantization.calibration_curve import CalibrationCurve
from pipeline.quantization.compare_observers import ObserversCompared


@pytest.fixture
def measure(
    pipeline: Callable[..., Any],
    small_family: Any,  # noqa: ARG001 - the zoo knows it
    small_checkpoint: Path,
    small_pictures: Path,
) -> Callable[..., Any]:
    """On the small checkpoint and its pictures."""
    return lambda *more: pipeline("calibrate", small_checkpoint, "--data", small_pictures, *more)


def test_compare(measure: Any, place: Path) -> None:
    ended = measure("--compare", "--calibration-size", 32, "--images", 6, "--seed", 2)
    assert (ended.status, ended.err) == (0, "")
    assert "calibrated on 32 images" in ended.out
    assert "judged on 6 others" in ended.out
    assert all(f"\n{name} " in ended.out for name in ("float network", *get_args(Observer)))
    again = measure("--compare", "--calibration-size", 32, "--images", 6, "--seed", 2, "--json")
    compared = msgspec.json.decode(again.out, type=ObserversCompared)
    assert f"Use the best: --observer {compared.best}," in ended.out
    assert (compared.recipe.images, compared.recipe.seed) == (32, 2)
    assert list(place.iterdir()) == []


def test_curve(measure: Any, place: Path) -> None:
    pytest.importorskip("matplotlib")
    plot = place / "curve.svg"
    options = ("--curve", "--observer", "percentile", "--calibration-size", 10, "--seeds", 2, "--images", 8)
    ended = measure(*options, "--plot", plot, "--json")
    assert (ended.status, ended.err) == (0, f"Plot: {plot}\n")
    curve = msgspec.json.decode(ended.out, type=CalibrationCurve)
    assert (curve.sizes(), curve.seeds(), curve.judged_images, curve.pool) == ([8, 10], [0, 1], 8, 32)
    assert curve.recipe.observer == "percentile"
    assert json.loads(ended.out)["points"][0]["judged"]["interval_points"][0] < 0
    assert [path.name for path in place.iterdir()] == ["curve.svg"]
    assert "small, percentile: 2 draws of each size from 32 images" in measure(*options).out


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--compare", "--curve"], "--compare and --curve are two measurements: give one of them"),
        (["--compare", "--out", "r.json"], "--out: only for calibrations that are written"),
        (["--curve", "--force"], "--force: only for calibrations that are written"),
        (["--compare", "--plot", "a.svg", "--seeds", 2], "--seeds, --plot: only for --curve. Leave it out"),
        (["--out", "r.json", "--test", "digits", "--json"], "--test, --json: only for --compare and --curve"),
        (["--out", "r.json", "--images", "9"], "--images: only for --compare and --curve"),
        (["--compare", "--observer", "mse"], "--compare runs every observer: leave --observer out"),
        (["--curve", "--plot", "a.gif"], "--plot is 'a.gif'; its name ends in .svg or .png"),
        (["--compare", "--images", "0"], "0 is not in the range x>=1"),
        (["--curve", "--test", "nowhere"], "No such folder or tar: 'nowhere'"),
        (["--compare", "--test", "digits"], "classes"),
        (["--curve", "--calibration-size", "99"], "Calibration asks for 99 images but the data has 20"),
    ],
)
def test_bad_usage(measure: Any, more: list[str], says: str) -> None:
    assert says in measure(*more).error()
