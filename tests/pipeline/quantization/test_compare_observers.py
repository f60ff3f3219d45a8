"""All observers side by side, against each one calibrated and simulated by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from rich.console import Console

from calibration.dataset.dataset import check_disjoint
from calibration.quantize import quantize
from calibration.recipe import Observer, Recipe
from calibration.simulate import Simulator
from edge_apps.chatter import hushed
from edge_apps.console import print_parts
from edge_apps.images import ImageSet
from edge_apps.runtime.preprocess import to_batch
from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.checkpoints.load import load
from pipeline.data import open_data
from pipeline.data.held_out import held_out
from pipeline.data.subset import Subset
from pipeline.errors import BadCalibration, BadInput
from pipeline.graphs.front_ends import ImageInput
from pipeline.metrics.paired import drop_interval, paired_table
from pipeline.quantization.calibrate import calibrate, draw
from pipeline.quantization.captured import Captured, capture
from pipeline.quantization.compare_observers import ObserversCompared, compare_observers
from pipeline.quantization.compare_observers_show import show_observers

RECIPE = Recipe(images=12, batch=4, seed=3)


@pytest.fixture
def checkpoint(small_family: Any, small_checkpoint: Path) -> Checkpoint:  # noqa: ARG001 - the zoo knows it
    return load(small_checkpoint)


@pytest.fixture
def images(small_pictures: Path) -> ImageSet:
    return open_data(str(small_pictures), "calibration")


def float_pixels(checkpoint: Checkpoint, images: ImageSet) -> torch.Tensor:
    pictures = to_batch([images.image(i) for i in range(len(images))], checkpoint.preprocess)
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float()


def logits_by_hand(captured: Captured, images: ImageSet, recipe: Recipe, judged: ImageSet) -> NDArray[np.float32]:
    calibration = calibrate(captured, draw(captured, images, recipe), recipe)
    with hushed():
        graph, _ = quantize(calibration.applied(captured).graph(), calibration.ranges, fold_weights=True)
    return Simulator(graph)(float_pixels(captured.checkpoint, judged)).numpy()


def decibels(reference: NDArray[np.float32], measured: NDArray[np.float32]) -> float:
    signal, noise = reference - reference.mean(0), (measured - measured.mean(0)) - (reference - reference.mean(0))
    return float(10 * np.log10((signal**2).sum() / (noise**2).sum()))


@pytest.mark.parametrize("repairs", [(), ("bias",)], ids=["plain", "repaired"])
def test_every_row_is_what_that_observer_gives(checkpoint: Checkpoint, images: ImageSet, repairs: Any) -> None:
    recipe = msgspec.structs.replace(RECIPE, repairs=repairs)
    compared = compare_observers(checkpoint, images, recipe, None, 20)
    assert [row.observer for row in compared.observers] == list(get_args(Observer))
    captured = capture(checkpoint, images.image(0))
    chosen = draw(captured, images, recipe).chosen
    judged = held_out(images, 20, recipe.seed, chosen)
    check_disjoint(chosen, judged)
    assert (compared.images, compared.calibration_sha256) == (20, chosen.digest())
    labels = np.array(judged.labels)
    with torch.no_grad():
        floating = ImageInput(checkpoint.network(), checkpoint.preprocess)(float_pixels(checkpoint, judged)).numpy()
    float_right = floating.argmax(1) == labels
    assert compared.float_top1 == float_right.mean()
    for row in compared.observers[3:4] if repairs else compared.observers:
        one = msgspec.structs.replace(recipe, observer=row.observer)
        logits = logits_by_hand(captured, images, one, judged)
        right = logits.argmax(1) == labels
        assert row.judged.sqnr_db == pytest.approx(decibels(floating, logits), abs=0.01)
        assert row.judged.top1 == right.mean()
        assert row.judged.agreement == (logits.argmax(1) == floating.argmax(1)).mean()
        assert row.judged.drop_points == pytest.approx(100 * (float_right.mean() - right.mean()))
        interval = drop_interval(paired_table(float_right, right))
        assert row.judged.interval_points == pytest.approx((100 * interval.low, 100 * interval.high))
    assert compared.best == max(compared.observers, key=lambda row: row.judged.sqnr_db).observer


def test_pictures_of_their_own(checkpoint: Checkpoint, images: ImageSet) -> None:
    """The draw is then that of ``pipeline calibrate``; so many are judged on."""
    pool = Subset(images, [*range(0, 12), *range(20, 32)], "pool")
    rest = Subset(images, [*range(12, 20), *range(32, 40)], "rest")
    compared = compare_observers(checkpoint, pool, RECIPE, rest, 6)
    assert (compared.data, compared.images, compared.calibration_data) == ("rest", 6, "pool")
    with pytest.raises(BadCalibration, match="were used for calibration"):
        compare_observers(checkpoint, pool, RECIPE, images, 6)


def test_what_cannot_be_judged(checkpoint: Checkpoint, images: ImageSet) -> None:
    with pytest.raises(BadInput, match="no pictures but those used for calibration"):
        compare_observers(checkpoint, images, msgspec.structs.replace(RECIPE, images=40), None, 10)

    class Renamed(Subset):
        classes = ("blue", "rot")

    with pytest.raises(BadInput, match=r"No folder for: red\. Unknown folder: rot\."):
        compare_observers(checkpoint, images, RECIPE, Renamed(images, range(40)), 10)


def test_table(checkpoint: Checkpoint, images: ImageSet) -> None:
    recipe = msgspec.structs.replace(RECIPE, observers={"classifier.*": "minmax"})
    compared = compare_observers(checkpoint, images, recipe, None, 20)
    assert msgspec.json.decode(compared.to_json(), type=ObserversCompared) == compared
    printed = []
    for width in (80, 140):
        console = Console(width=width)
        with console.capture() as shown:
            print_parts(show_observers(compared), console)
        printed.append(shown.get())
    text = printed[0]
    assert text.split() == printed[1].split()  # nothing is cut at 80 columns
    lines = text.splitlines()
    (best,) = [line for line in lines if line.rstrip().endswith("best")]
    assert best.startswith(compared.best)
    for row in compared.observers:
        (line,) = [line for line in lines if line.startswith(f"{row.observer} ")]
        assert f"{row.judged.sqnr_db:.1f}" in line
    assert f"--observer {compared.best}," in text
    assert "The recipe's own observers stayed for: classifier.*." in text
    assert "Judged on only 20 images" in text
    assert "Only 12 calibration images" in text
