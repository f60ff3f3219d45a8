"""Calibration of a captured network: which pictures, what range every tensor has, what is done against rounding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from calibration.dataset import CalibrationSet, choose
from calibration.quantize import Found, find_ranges, quantize
from calibration.ranges import Effect, Ranges, load_ranges
from calibration.recipe import Recipe
from calibration.repairs import Repairs
from calibration.simulate import Simulator
from edge_apps.chatter import hushed
from edge_apps.files import write_whole
from edge_apps.images import ImageSet
from edge_apps.runtime.preprocess import to_batch
from pipeline.accuracy.sqnr import sqnr_db, storable
from pipeline.capture import input_range
from pipeline.captured import Captured
from pipeline.data.classes import names_in
from pipeline.errors import BadCalibration, BadImage

COMPARED_IMAGES = 64
"""A file, and the effect of a repair, is measured on this many of the calibration images."""

AT_ONCE = 64
"""Pictures in memory while thousands are looked at."""


@dataclass(frozen=True)
class Pictures:
    """The calibration set and its pixels, uint8 ``[N, H, W, 3]``."""

    chosen: CalibrationSet
    pixels: NDArray[np.uint8]

    def compared(self) -> NDArray[np.uint8]:
        """Those that networks are compared on: spread over the set, which lies in the order of the data."""
        step = max(1, len(self.pixels) // COMPARED_IMAGES)
        return self.pixels[::step][:COMPARED_IMAGES]


@dataclass(frozen=True)
class Calibration:
    """All that int8 files are made of: ranges, and edits of the network."""

    ranges: Ranges
    repairs: Repairs | None = None

    def applied(self, captured: Captured) -> Captured:
        """The network that int8 files hold."""
        return captured if self.repairs is None else captured.with_repairs(self.repairs)


def draw(captured: Captured, images: ImageSet, recipe: Recipe) -> Pictures:
    """Draw the calibration set of a recipe.

    Raises:
        BadCalibration: too few pictures, or pictures that cannot calibrate. BadImage: a corrupt one.
    """

    def read(indices: Sequence[int]) -> NDArray[np.uint8]:
        return to_batch([images.image(i) for i in indices], captured.checkpoint.preprocess)

    def features(indices: Sequence[int]) -> NDArray[np.float32]:
        parts = [indices[start : start + AT_ONCE] for start in range(0, len(indices), AT_ONCE)]
        return np.concatenate([captured.features(read(part)) for part in parts])

    try:
        chosen, indices = choose(images, recipe, features, labels=names_in(images, captured.checkpoint.labels))
        return Pictures(chosen, read(indices))
    except BadImage as error:
        raise BadImage(f"{error} Or leave such pictures out with --skip-corrupt.") from error


def remarks(chosen: CalibrationSet) -> list[str]:
    """What a user should know of a drawn set, a line each."""
    return [*map(str, chosen.replaced), *(f"Warning: {warning}" for warning in chosen.warnings)]


def effects(ranges: Ranges) -> list[str]:
    """What each repair did, a line each; none where there are no repairs."""
    return [
        f"int8 against float, calibration images, {' + '.join(effect.repairs) or 'no repair'}: {effect.sqnr_db:.1f} dB"
        for effect in ranges.effects
    ]


def calibrate(captured: Captured, pictures: Pictures, recipe: Recipe) -> Calibration:
    """One calibration pass, which fixes every scale that any target will use, between the repairs of the recipe."""
    if not recipe.repairs:
        return Calibration(_ranges(captured, pictures, recipe))
    floating = captured.logits(captured.graph(), pictures.compared())
    effects: list[Effect] = []
    repairs, done = Repairs({}), captured
    ranges = _ranges(done, pictures, recipe)

    def note(*made: str) -> None:
        with hushed():
            int8 = Simulator(quantize(done.graph(), ranges, fold_weights=True)[0])
        decibels = storable(sqnr_db(floating, done.logits(int8, pictures.compared())))
        effects.append(Effect(repairs=made, sqnr_db=decibels))

    note()
    for number, name in enumerate(name for name in REPAIRS if name in recipe.repairs):
        repairs = repairs.then(REPAIRS[name](captured, done, ranges, pictures))
        done = captured.with_repairs(repairs)
        if name == "equalize":
            ranges = _ranges(done, pictures, recipe)
        note(*[name for name in REPAIRS if name in recipe.repairs][: number + 1])
    return Calibration(
        msgspec.structs.replace(ranges, repairs_sha256=repairs.sha256(), effects=tuple(effects)), repairs
    )


def _ranges(captured: Captured, pictures: Pictures, recipe: Recipe) -> Ranges:
    with hushed():
        found = find_ranges(
            captured.graph(),
            captured.batches(pictures.pixels, recipe.batch),
            recipe,
            input_range(captured.checkpoint.preprocess),
        )
    return as_ranges(found, captured, pictures, recipe)


def as_ranges(found: Found, captured: Captured, pictures: Pictures, recipe: Recipe) -> Ranges:
    """What was found, with what it was found with."""
    return Ranges(
        preprocess=captured.checkpoint.preprocess,
        checkpoint_sha256=captured.checkpoint.sha256,
        recipe=recipe,
        calibration_set=pictures.chosen,
        values=found.values,
        observers=found.observers,
    )


def _equalize(_original: Captured, done: Captured, ranges: Ranges, pictures: Pictures) -> Repairs:
    from calibration.equalize import equalize

    return equalize(done.graph(), done.batches(pictures.pixels, ranges.recipe.batch))


def _round(_original: Captured, done: Captured, ranges: Ranges, pictures: Pictures) -> Repairs:
    from calibration.adaround import round_adaptively

    with hushed():
        return round_adaptively(done.graph(), ranges, done.batches(pictures.pixels, ranges.recipe.batch))


def _correct(original: Captured, done: Captured, ranges: Ranges, pictures: Pictures) -> Repairs:
    from calibration.bias import correct_biases

    with hushed():
        batches = done.batches(pictures.pixels, ranges.recipe.batch)
        return correct_biases(original.graph(), done.graph(), ranges, batches)


Make = Callable[[Captured, Captured, Ranges, Pictures], Repairs]

# In the order in which they are made: scales first, then rounding, then what is left in the mean.
REPAIRS: dict[str, Make] = {"equalize": _equalize, "adaround": _round, "bias": _correct}


def repairs_path(ranges: Path) -> Path:
    """Where repairs lie beside their ranges: ``ranges.json`` and ``ranges.safetensors``."""
    return ranges.with_suffix(".safetensors")


def save_calibration(path: Path, calibration: Calibration) -> None:
    """Write ranges, and beside them the repairs that they hold for; the ranges last, which name the repairs."""
    if calibration.repairs is not None:
        write_whole(repairs_path(path), calibration.repairs.to_bytes())
    write_whole(path, calibration.ranges.to_json())


def load_calibration(path: Path) -> Calibration:
    """Read what ``save_calibration`` wrote; ``BadCalibration`` where it is not that."""
    ranges = load_ranges(path)
    if ranges.repairs_sha256 is None:
        return Calibration(ranges)
    beside = repairs_path(path)
    try:
        repairs = Repairs.from_bytes(beside.read_bytes())
    except OSError as error:
        raise BadCalibration(
            f"'{path}' goes with repaired weights in '{beside}', which cannot be read ({error.strerror}): "
            "keep both files together, or calibrate again."
        ) from error
    if repairs.sha256() != ranges.repairs_sha256:
        raise BadCalibration(f"'{beside}' does not belong to '{path}': calibrate again.")
    return Calibration(ranges, repairs)
