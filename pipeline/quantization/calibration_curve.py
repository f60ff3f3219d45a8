"""How many calibration images are enough, and how much the draw matters: SQNR and accuracy against their number."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from calibration.dataset.dataset import check_disjoint
from calibration.dataset.sampling import ClassBalanced, check_enough
from calibration.quantize import Watch
from calibration.recipe import Recipe
from edge_apps import progress
from edge_apps.chatter import hushed
from edge_apps.images import ImageSet, sha256
from edge_apps.json_text import indented
from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.data.classes import coverage, matched
from pipeline.data.reading import digest, load_all
from pipeline.data.subset import Subset
from pipeline.evaluation.inference import Done
from pipeline.graphs.front_ends import input_range
from pipeline.quantization.calibrate import Calibration, Pictures, as_ranges, calibrate, draw, remarks
from pipeline.quantization.captured import Captured, capture
from pipeline.quantization.simulated_accuracy import IMAGES, Judge, Judged, check_count

FORMAT = 1
"""Version of the JSON."""

SMALLEST, LARGEST = 8, 1024
"""Numbers of images that are tried: doubling from one to the other, unless another is asked for."""

NEAR_DB = 1.0
"""A draw that is no further below what the largest sets reach is as good as they are."""


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """The int8 network of one draw of calibration images."""

    images: int
    seed: int
    judged: Judged


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """Of the draws of one size: the median, the lowest and the highest."""

    median: float
    low: float
    high: float


class CalibrationCurve(msgspec.Struct, frozen=True, kw_only=True):
    """One curve. The recipe is that of all points but for ``images`` and ``seed``.

    pool: how many pictures there were to draw from. data, data_sha256 and judged_images are what was judged on.
    remarks: what a user should know of the sets that were drawn and of classes that nothing is judged on, a line each.
    """

    format: int
    checkpoint_sha256: str
    model: str
    recipe: Recipe
    calibration_data: str
    pool: int
    data: str
    data_sha256: str
    judged_images: int
    float_top1: float
    points: tuple[Point, ...]
    remarks: tuple[str, ...] = ()

    def sizes(self) -> list[int]:
        """The numbers of images, ascending."""
        return sorted({point.images for point in self.points})

    def seeds(self) -> list[int]:
        """Those of the draws."""
        return sorted({point.seed for point in self.points})

    def spread(self, size: int, figure: Callable[[Judged], float]) -> Spread:
        """A figure over the draws of one size."""
        values = [figure(point.judged) for point in self.points if point.images == size]
        return Spread(median=statistics.median(values), low=min(values), high=max(values))

    def enough(self) -> int | None:
        """The fewest images from which on no draw is more than ``NEAR_DB`` below the median of the largest sets.

        None where that is the largest size itself, of which nothing larger shows that it is enough.
        """
        sizes = self.sizes()
        wanted = self.spread(sizes[-1], _sqnr).median - NEAR_DB
        lacking = [size for size in sizes if self.spread(size, _sqnr).low < wanted]
        later = [size for size in sizes if not lacking or size > lacking[-1]]
        return later[0] if later and later[0] < sizes[-1] else None

    def to_json(self) -> bytes:
        """Indented JSON, UTF-8."""
        return indented(self)


def sizes_up_to(most: int) -> list[int]:
    """8, 16, 32, … below ``most``, and ``most``."""
    doubled = [SMALLEST << k for k in range(most.bit_length())]
    return [*(size for size in doubled if size < most), most]


def calibration_curve(
    checkpoint: Checkpoint,
    images: ImageSet,
    recipe: Recipe,
    *,
    test: ImageSet | None,
    count: int | None,
    seeds: int,
    largest: int | None,
) -> CalibrationCurve:
    """Calibrate on more and more images, ``seeds`` times from different draws, and judge each int8 network.

    A draw is what ``--calibration-size`` and ``--seed`` draw, so the sets of one seed are nested and one pass over the
    largest is enough: points of one seed depend on each other, different seeds do not. Judged are ``count`` pictures
    of ``test``; without it, of ``images`` (at most half of them), which are then not calibrated on; without a number,
    ``IMAGES`` or as many as there are.

    Raises:
        BadInput: a class that is none of the checkpoint's, fewer than ``count`` pictures to judge on. BadCalibration:
            fewer images than ``largest``, pictures that cannot calibrate or that are in ``test``.
    """
    covered = coverage(images if test is None else test, checkpoint.labels)
    if test is None:
        images = matched(images, checkpoint.labels)
    else:
        test = matched(test, checkpoint.labels)
    wanted = count or IMAGES
    if test is None:
        pool, judged_on = _apart(images, wanted, recipe.seed)
    else:
        pool, judged_on = images, _some(test, wanted, recipe.seed)
    check_count(judged_on, count)
    if largest is not None:
        check_enough(len(pool), largest)
    sizes = sizes_up_to(largest or min(LARGEST, len(pool)))
    captured = capture(checkpoint, images.image(0))
    pixels = load_all(judged_on, checkpoint.preprocess)
    draws = range(recipe.seed, recipe.seed + seeds)
    points, noted = [], dict[str, None]()
    work = seeds * sizes[-1] + (1 + seeds * len(sizes)) * len(pixels)
    with progress.track(f"Calibrating, {seeds} {'draw' if seeds == 1 else 'draws'}", work) as task:
        done = task.advance
        judge = Judge(captured, pixels, done)
        for seed in draws:
            recipes = [msgspec.structs.replace(recipe, images=size, seed=seed) for size in sizes]
            known: dict[int, NDArray[np.float32]] = {}
            drawn = (draw(captured, pool, sized, known) for sized in recipes)
            for sized, calibration in zip(recipes, _calibrations(captured, drawn, recipes, done), strict=True):
                chosen = calibration.ranges.calibration_set
                if test is not None:
                    check_disjoint(chosen, judged_on)
                noted.update(dict.fromkeys(remarks(chosen)))
                points.append(Point(images=len(chosen.images), seed=sized.seed, judged=judge.judge(calibration)))
    return CalibrationCurve(
        format=FORMAT,
        checkpoint_sha256=checkpoint.sha256,
        model=checkpoint.spec.name,
        recipe=recipe,
        calibration_data=images.name,
        pool=len(pool),
        data=judged_on.name,
        data_sha256=digest(judged_on),
        judged_images=len(judged_on),
        float_top1=judge.float_top1,
        points=tuple(points),
        remarks=(*noted, *covered),
    )


def _some(images: ImageSet, count: int, seed: int) -> ImageSet:
    return Subset(images, ClassBalanced(images.labels, seed).take(min(count, len(images))))


def _apart(images: ImageSet, count: int, seed: int) -> tuple[ImageSet, ImageSet]:
    """What may calibrate, and what is judged on: no picture of the one is in the other, under no name."""
    judged_on = _some(images, min(count, len(images) // 2), seed)
    taken = {sha256(judged_on, index) for index in range(len(judged_on))}
    return Subset(images, [i for i in range(len(images)) if sha256(images, i) not in taken]), judged_on


def _calibrations(
    captured: Captured, drawn: Iterator[Pictures], recipes: Sequence[Recipe], done: Done
) -> Iterator[Calibration]:
    """Of each set, in ascending size; a set that holds the one before it is not run from its beginning again.

    It is for the moving average, the only observer to which the order of pictures matters.
    """
    ordered = "moving-average" in {recipes[0].observer, *recipes[0].observers.values()}
    watch: Watch | None = None
    seen: set[str] = set()
    for recipe, pictures in zip(recipes, drawn, strict=True):
        names = [image.name for image in pictures.chosen.images]
        new = np.array([name not in seen for name in names])
        if recipe.repairs:
            yield calibrate(captured, pictures, recipe)
        else:
            with hushed():
                if watch is None or ordered or not seen.issubset(names):  # replaced pictures are not in it again
                    watch = Watch(captured.graph(), [recipe], input_range(captured.checkpoint.preprocess))
                    new[:] = True
                fresh = pictures.shuffled() if new.all() else pictures.pixels[new]
                for batch in captured.batches(fresh, recipe.batch):
                    watch.see(batch)
            yield Calibration(as_ranges(watch.found(), captured, pictures, recipe))
        done(int(new.sum()))
        seen = set(names)


def _sqnr(judged: Judged) -> float:
    return judged.sqnr_db
