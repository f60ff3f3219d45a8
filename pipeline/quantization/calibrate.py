"""Calibration of a captured network: which pictures, what range every tensor has, what is done against rounding."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from torch.fx import GraphModule

from calibration.algorithms import algorithms
from calibration.algorithms.algorithm import AlgorithmInput, Phase
from calibration.algorithms.repairs import Repairs, with_values
from calibration.dataset.dataset import CalibrationSet, choose
from calibration.mixed import keep_float
from calibration.quantize import Found, find_ranges, quantize
from calibration.ranges import Effect, Ranges, load_ranges
from calibration.recipe import Recipe
from calibration.simulate import Simulator
from edge_apps.chatter import hushed
from edge_apps.files import write_whole
from edge_apps.images import ImageSet
from edge_apps.runtime.preprocess import to_batch
from edge_apps.untrusted import MB, read_regular
from pipeline.data.classes import names_in
from pipeline.data.held_back import held_back
from pipeline.data.held_out import held_out
from pipeline.errors import BadCalibration, BadImage, BadInput
from pipeline.graphs.front_ends import input_range
from pipeline.metrics.sqnr import sqnr_db, storable
from pipeline.quantization.captured import Captured

COMPARED_IMAGES = 64
"""The effect of a repair is measured on this many images."""

LARGEST_REPAIRS = 4_000 * MB
"""Bytes of repaired weights, which are no more than those of the checkpoint."""

AT_ONCE = 64
"""Pictures in memory while thousands are looked at."""


@dataclass(frozen=True)
class Pictures:
    """The calibration set and its pixels, uint8 ``[N, H, W, 3]``.

    ``unseen`` are others, on which repairs are measured; None where there are no repairs, or no other pictures.
    """

    chosen: CalibrationSet
    pixels: NDArray[np.uint8]
    unseen: NDArray[np.uint8] | None = None

    def compared(self) -> NDArray[np.uint8]:
        """Those that networks are compared on: spread over the set, which lies in the order of the data."""
        count = min(COMPARED_IMAGES, len(self.pixels))
        spread: NDArray[np.uint8] = self.pixels[np.linspace(0, len(self.pixels) - 1, count).round().astype(int)]
        return spread

    def shuffled(self) -> NDArray[np.uint8]:
        """All, in a seeded order: data lies class by class, and an observer may weigh the last batches most."""
        return self.pixels[np.random.default_rng(self.chosen.seed).permutation(len(self.pixels))]


@dataclass(frozen=True)
class Calibration:
    """All that int8 files are made of: ranges, and edits of the network, empty without repairs."""

    ranges: Ranges
    repairs: Repairs = field(default_factory=Repairs)

    def applied(self, captured: Captured) -> Captured:
        """The network that int8 files hold, captured again."""
        return captured.with_repairs(self.repairs) if self.repairs.tensors else captured

    def graph(self, captured: Captured) -> GraphModule:
        """Its graph."""
        return with_values(captured.graph(), self.repairs.tensors)

    def with_float(self, captured: Captured, layers: Collection[str]) -> Calibration:
        """The same with these layers (module paths) in float, and not rounded; biases were corrected with them in int8.

        A recipe's own ``float_layers`` are in float from the beginning, and their biases are corrected so.
        """
        graph = captured.graph()
        ranges, repairs = keep_float(graph, self.ranges, layers), self.repairs.with_float(graph, layers)
        if layers and ranges.repairs_sha256 is not None:  # the effects were measured with these layers in int8
            ranges = msgspec.structs.replace(ranges, repairs_sha256=repairs.sha256(), effects=())
        return Calibration(ranges, repairs)


def draw(
    captured: Captured, images: ImageSet, recipe: Recipe, known: dict[int, NDArray[np.float32]] | None = None
) -> Pictures:
    """Draw the calibration set of a recipe. ``known`` keeps the features of pictures from one draw to the next.

    Where the recipe asks for no number, as many images stay out as ``held_back`` says, for files to be judged on.

    Raises:
        BadCalibration: too few pictures, or pictures that cannot calibrate. BadImage: a corrupt one.
    """

    def read(indices: Sequence[int]) -> NDArray[np.uint8]:
        return to_batch([images.image(i) for i in indices], captured.checkpoint.preprocess)

    recipe = recipe.fitted(len(images), held_back(len(images)))
    seen = {} if known is None else known

    def features(indices: Sequence[int]) -> NDArray[np.float32]:
        new = [index for index in indices if index not in seen]
        for start in range(0, len(new), AT_ONCE):
            part = new[start : start + AT_ONCE]
            seen.update(zip(part, captured.features(read(part)), strict=True))
        return np.stack([seen[index] for index in indices])

    try:
        chosen, indices = choose(images, recipe, features, labels=names_in(images, captured.checkpoint.labels))
        return Pictures(chosen, read(indices), _unseen(captured, images, recipe, chosen))
    except BadImage as error:
        raise BadImage(f"{error} Or leave such pictures out with `skip_corrupt`.") from error


def _unseen(captured: Captured, images: ImageSet, recipe: Recipe, chosen: CalibrationSet) -> NDArray[np.uint8] | None:
    if not recipe.repairs:
        return None
    try:
        others = held_out(images, COMPARED_IMAGES, recipe.seed, chosen)
    except BadInput:  # all of them calibrate
        return None
    return to_batch([others.image(i) for i in range(len(others))], captured.checkpoint.preprocess)


def remarks(chosen: CalibrationSet) -> list[str]:
    """What a user should know of a drawn set, a line each."""
    return [*map(str, chosen.replaced), *(f"Warning: {warning}" for warning in chosen.warnings)]


def effects(ranges: Ranges) -> list[str]:
    """What each repair did, a line each; none where there are no repairs."""
    return [
        f"int8 against float on {effect.images} {'other' if effect.unseen else 'calibration'} images, "
        f"{' + '.join(effect.repairs) or 'no repair'}: {effect.sqnr_db:.1f} dB"
        for effect in ranges.effects
    ]


def calibrate(captured: Captured, pictures: Pictures, recipe: Recipe) -> Calibration:
    """Find the ranges that fix every scale of any target, and run the PTQ algorithms that the recipe names.

    Algorithms run in the order of ``algorithms()``; after each that scales channels, ranges are found again.
    """
    ranges = _ranges(captured, pictures, recipe)
    if not recipe.repairs:
        return Calibration(ranges)
    repairs, unrounded, done = Repairs(), captured, captured
    batches = captured.batches(pictures.pixels, recipe.batch)
    effects = [_effect((), captured, done, ranges, pictures)]
    for algorithm in algorithms():
        if algorithm.name not in recipe.repairs:
            continue
        with hushed():
            found = algorithm.apply(AlgorithmInput(done, unrounded, ranges, batches))
        repairs = repairs.then(found)
        done = captured.with_repairs(repairs)
        if algorithm.phase is Phase.SCALING:
            unrounded, ranges = done, _ranges(done, pictures, recipe)
        effects.append(_effect((*effects[-1].repairs, algorithm.name), captured, done, ranges, pictures))
    return Calibration(
        msgspec.structs.replace(ranges, repairs_sha256=repairs.sha256(), effects=tuple(effects)), repairs
    )


def _effect(made: tuple[str, ...], captured: Captured, done: Captured, ranges: Ranges, pictures: Pictures) -> Effect:
    judged = pictures.compared() if pictures.unseen is None else pictures.unseen
    with hushed():
        int8 = Simulator(quantize(done.graph(), ranges, fold_weights=True)[0])
    decibels = sqnr_db(captured.logits(captured.graph(), judged), done.logits(int8, judged))
    return Effect(repairs=made, sqnr_db=storable(decibels), images=len(judged), unseen=pictures.unseen is not None)


def _ranges(captured: Captured, pictures: Pictures, recipe: Recipe) -> Ranges:
    with hushed():
        found = find_ranges(
            captured.graph(),
            captured.batches(pictures.shuffled(), recipe.batch),
            recipe,
            input_range(captured.checkpoint.preprocess),
        )
    return as_ranges(found, captured, pictures, recipe)


def as_ranges(found: Found, captured: Captured, pictures: Pictures, recipe: Recipe) -> Ranges:
    """What was found, with what it was found with; the recipe is recorded with the number of images that were used."""
    if recipe.images is None:
        recipe = msgspec.structs.replace(recipe, images=len(pictures.pixels))
    return Ranges(
        preprocess=captured.checkpoint.preprocess,
        checkpoint_sha256=captured.checkpoint.sha256,
        recipe=recipe,
        calibration_set=pictures.chosen,
        values=found.values,
        observers=found.observers,
    )


def repairs_path(ranges: Path) -> Path:
    """Where repairs lie beside their ranges: ``ranges.json`` and ``ranges.repairs.safetensors``."""
    return ranges.with_suffix(".repairs.safetensors")


def save_calibration(path: Path, calibration: Calibration) -> None:
    """Write ranges, and beside them the repairs that they hold for; the ranges last, which name the repairs."""
    if calibration.ranges.repairs_sha256 is not None:
        write_whole(repairs_path(path), calibration.repairs.to_bytes())
    write_whole(path, calibration.ranges.to_json())


def load_calibration(path: Path) -> Calibration:
    """Read what ``save_calibration`` wrote; ``BadCalibration`` where it is not that."""
    ranges = load_ranges(path)
    if ranges.repairs_sha256 is None:
        return Calibration(ranges)
    beside = repairs_path(path)
    try:
        repairs = Repairs.from_bytes(read_regular(beside, LARGEST_REPAIRS))
    except OSError as error:
        raise BadCalibration(
            f"'{path}' goes with repaired weights in '{beside}', which cannot be read ({error.strerror}): "
            "keep both files together, or calibrate again."
        ) from error
    if repairs.sha256() != ranges.repairs_sha256:
        raise BadCalibration(f"'{beside}' does not belong to '{path}': calibrate again.")
    return Calibration(ranges, repairs)
