"""All observers on the same calibration images, side by side."""

from __future__ import annotations

from typing import get_args

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

from calibration.dataset.dataset import check_disjoint
from calibration.quantize import Watch
from calibration.recipe import Observer, Recipe
from edge_apps.chatter import hushed
from edge_apps.console import progress_bar, table
from edge_apps.images import ImageSet
from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.data.classes import coverage, matched
from pipeline.data.held_out import held_out
from pipeline.data.reading import digest, load_all
from pipeline.evaluation.inference import Done
from pipeline.evaluation.show import drop_with_interval, percent
from pipeline.graphs.front_ends import input_range
from pipeline.metrics.sqnr import ENOUGH_IMAGES
from pipeline.quantization.calibrate import Calibration, Pictures, as_ranges, calibrate, draw, remarks
from pipeline.quantization.captured import Captured, capture
from pipeline.quantization.simulated_accuracy import IMAGES, Judge, Judged, check_count

FORMAT = 1
"""Version of the JSON."""

COLUMNS = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(elapsed_when_finished=True))


class ObserverResult(msgspec.Struct, frozen=True, kw_only=True):
    """One observer's int8 network."""

    observer: Observer
    judged: Judged


class ObserversCompared(msgspec.Struct, frozen=True, kw_only=True):
    """One comparison. The recipe is that of all of them but for ``observer``.

    calibration_sha256 is the digest of the calibration set; data, data_sha256 and images are what was judged on.
    best is the observer with the highest SQNR. remarks: on the calibration images, and on classes that nothing is
    judged on.
    """

    format: int
    checkpoint_sha256: str
    model: str
    recipe: Recipe
    calibration_data: str
    calibration_sha256: str
    data: str
    data_sha256: str
    images: int
    float_top1: float
    observers: tuple[ObserverResult, ...]
    best: Observer
    remarks: tuple[str, ...]

    def to_json(self) -> bytes:
        """Indented JSON, UTF-8."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1)


def compare_observers(
    checkpoint: Checkpoint, images: ImageSet, recipe: Recipe, test: ImageSet | None, count: int | None
) -> ObserversCompared:
    """Calibrate with every observer on the recipe's calibration set, and judge the int8 networks.

    All observers watch one pass over the pictures, unless the recipe has repairs, which depend on the ranges. ``count``
    pictures of ``test``, or of those of ``images`` that did not calibrate, are judged on; without a number, ``IMAGES``
    or all there are.

    Raises:
        BadInput: a class that is none of the checkpoint's, fewer than ``count`` pictures to judge on. BadCalibration:
            calibration pictures that cannot serve, or that are in ``test``.
    """
    covered = coverage(images if test is None else test, checkpoint.labels)
    if test is None:
        images = matched(images, checkpoint.labels)
    else:
        test = matched(test, checkpoint.labels)
    captured = capture(checkpoint, images.image(0))
    pictures = draw(captured, images, recipe)
    recipe = msgspec.structs.replace(recipe, images=len(pictures.pixels))
    if test is not None:
        check_disjoint(pictures.chosen, test)
    judged_on = held_out(images if test is None else test, count or IMAGES, recipe.seed, pictures.chosen)
    check_count(judged_on, count)
    pixels = load_all(judged_on, checkpoint.preprocess)
    names: tuple[Observer, ...] = get_args(Observer)
    recipes = [msgspec.structs.replace(recipe, observer=name) for name in names]
    passes = len(names) if recipe.repairs else 1
    with progress_bar(*COLUMNS, transient=True) as bar:
        task = bar.add_task("Comparing observers", total=passes * len(pictures.pixels) + (1 + len(names)) * len(pixels))

        def done(finished: int) -> None:
            bar.advance(task, finished)

        judge = Judge(captured, pixels, done)
        calibrations = _calibrations(captured, pictures, recipes, done)
        results = tuple(
            ObserverResult(observer=name, judged=judge.judge(calibration))
            for name, calibration in zip(names, calibrations, strict=True)
        )
    return ObserversCompared(
        format=FORMAT,
        checkpoint_sha256=checkpoint.sha256,
        model=checkpoint.spec.name,
        recipe=recipe,
        calibration_data=images.name,
        calibration_sha256=pictures.chosen.digest(),
        data=judged_on.name,
        data_sha256=digest(judged_on),
        images=len(judged_on),
        float_top1=judge.float_top1,
        observers=results,
        best=max(results, key=lambda result: result.judged.sqnr_db).observer,
        remarks=(*remarks(pictures.chosen), *covered),
    )


def _calibrations(captured: Captured, pictures: Pictures, recipes: list[Recipe], done: Done) -> list[Calibration]:
    if recipes[0].repairs:
        found = []
        for recipe in recipes:
            found.append(calibrate(captured, pictures, recipe))
            done(len(pictures.pixels))
        return found
    with hushed():
        watch = Watch(captured.graph(), recipes, input_range(captured.checkpoint.preprocess))
        for batch in captured.batches(pictures.shuffled(), recipes[0].batch):
            watch.see(batch)
            done(len(batch))
    return [Calibration(as_ranges(watch.found(i), captured, pictures, recipe)) for i, recipe in enumerate(recipes)]


def show_observers(result: ObserversCompared, console: Console) -> None:
    """Print a row for the float network and for every observer, and how to use the best."""
    console.print(
        f"{result.model}: calibrated on {result.recipe.images} images of {result.calibration_data}, "
        f"judged on {result.images} others of {result.data}",
        markup=False,
        soft_wrap=True,
    )
    shown = table()
    shown.add_column("\nobserver")
    for header in ("SQNR\ndB", "top-1\n%", "drop, points\n[95 % interval]", "agree-\nment %"):
        shown.add_column(escape(header), justify="right", no_wrap=True)
    shown.add_column("")
    shown.add_row("float network", "", percent(result.float_top1), "reference", "")
    for row in result.observers:
        judged = row.judged
        shown.add_row(
            row.observer,
            f"{judged.sqnr_db:.1f}",
            percent(judged.top1),
            escape(drop_with_interval(judged.drop_points, judged.interval_points)),
            percent(judged.agreement),
            "best" if row.observer == result.best else "",
            style="bold" if row.observer == result.best else None,
        )
    console.print(shown)
    for line in _legend(result):
        console.print(line, markup=False, soft_wrap=True)


def _legend(result: ObserversCompared) -> list[str]:
    lines = list(result.remarks)
    if result.images < ENOUGH_IMAGES:
        lines.append(f"Judged on only {result.images} images: the figures are indicative.")
    if result.recipe.observers:
        lines.append(f"The recipe's own observers stayed for: {', '.join(result.recipe.observers)}.")
    lines += [
        "SQNR: of the logits, int8 against float; higher is better. drop: top-1 lost on the same images; minus is a "
        "gain.",
        "best: the highest SQNR, which tells observers apart on fewer images than top-1 does.",
    ]
    best = next(row.judged for row in result.observers if row.observer == result.best)
    higher = [row.observer for row in result.observers if row.judged.top1 > best.top1]
    if higher:
        lines.append(
            f"Higher top-1 on these images: {', '.join(higher)}. More of them (`images`) say whether that lasts."
        )
    lines.append(
        f"Use the best: `observer={result.best}`, with 'pipeline calibrate' or 'pipeline export'; or "
        f'observer = "{result.best}" in a recipe.'
    )
    return lines
