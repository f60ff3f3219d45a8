"""What "int8" means here: a recipe is data, a TOML file or the defaults."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal, get_args

import msgspec

from calibration.errors import BadCalibration, BadRecipe
from edge_apps.untrusted import LARGEST_TOML, parse_toml, read_regular

Observer = Literal["minmax", "moving-average", "percentile", "mse", "entropy"]
Choice = Literal["class-balanced", "feature-coverage"]
Repair = Literal["equalize", "adaround", "bias"]
Scales = Literal["per-channel", "per-tensor"]

DEFAULT_IMAGES = 128
"""Calibration images where a recipe does not ask for a number, or as many as the data has."""

LEAST_IMAGES = 4
"""Fewer calibration images than this are refused, unless the recipe asks for so few."""


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How ranges are found and what stays in float.

    observer: how an activation's range is chosen (``calibration.observers``). observers: another one for tensors
    whose key (``features.3.conv.2:conv2d:0``) matches a pattern; the first that matches. percentile: the share of
    values that the ``percentile`` observer keeps. averaging: the weight of the newest batch for ``moving-average``.
    weights: one scale per output channel, or one per tensor. repairs: what is done to the weights against the
    rounding, in the order of ``Repair``. images, choice, seed: size and draw of the calibration set; images is None
    where no number was asked for (``fitted``). batch: images per calibration pass. float_layers: module paths that
    stay in float, ``*`` matches anything (``features.1*``, ``classifier.1``).
    """

    observer: Observer = "mse"
    observers: dict[str, Observer] = {}
    percentile: float = 99.99
    averaging: float = 0.1
    weights: Scales = "per-channel"
    repairs: tuple[Repair, ...] = ()
    images: int | None = None
    choice: Choice = "class-balanced"
    seed: int = 0
    batch: int = 16
    float_layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        limits = {
            "percentile": (50 < self.percentile <= 100, "above 50, at most 100"),
            "averaging": (0 < self.averaging <= 1, "above 0, at most 1"),
            "images": (self.images is None or self.images >= 1, "at least 1"),
            "batch": (self.batch >= 1, "at least 1"),
            "seed": (0 <= self.seed < 2**63, "at least 0, below 2^63"),
        }
        for name, (holds, allowed) in limits.items():
            if not holds:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed: {allowed}")

    def observer_of(self, key: str) -> Observer:
        """How the range of the tensor with this key is chosen."""
        return next((name for pattern, name in self.observers.items() if fnmatchcase(key, pattern)), self.observer)

    def fitted(self, available: int, held_back: int = 0) -> Recipe:
        """Return the recipe with a number of images that data with ``available`` images can give.

        A number that was asked for stays, whatever the data has. Without one it is ``DEFAULT_IMAGES``, or all images
        but the ``held_back`` ones that files are judged on.

        Raises:
            BadCalibration: no number was asked for, and the data has fewer than ``LEAST_IMAGES``.
        """
        if self.images is not None:
            return self
        if available - held_back < LEAST_IMAGES:
            raise BadCalibration(
                f"The data has {available} images; at least {LEAST_IMAGES} are needed to calibrate int8 files, and "
                f"{DEFAULT_IMAGES} are better. Give more images, or export `precision=fp32`, which needs none."
            )
        return msgspec.structs.replace(self, images=min(DEFAULT_IMAGES, available - held_back))

    def keeps_float(self, module_path: str) -> bool:
        """Whether the layer at this module path stays in float."""
        return any(fnmatchcase(module_path, pattern) for pattern in self.float_layers)


def load_recipe(path: Path) -> Recipe:
    """Read a recipe from TOML; unknown keys and values out of range raise ``BadRecipe``."""
    try:
        data = read_regular(path, LARGEST_TOML)
    except OSError as error:
        raise BadRecipe(f"Cannot read recipe '{path}': {error.strerror}.") from error
    return parse_recipe(data, path)


def parse_recipe(data: bytes, path: Path) -> Recipe:
    """Read the bytes of a recipe. Raises what ``load_recipe`` raises."""
    try:
        return parse_toml(data, Recipe)
    except ValueError as error:
        raise BadRecipe(f"Recipe '{path}': {explained(error)}") from error


_NAMES = {"observer": Observer, "observers": Observer, "choice": Choice, "repairs": Repair, "weights": Scales}


def explained(error: Exception) -> str:
    """What is wrong with a recipe's values, and what is allowed there."""
    place = re.search(r"at `\$\.(\w+)", str(error))
    if place and place[1] in _NAMES:
        return f"{error}; allowed for {place[1]}: {', '.join(get_args(_NAMES[place[1]]))}."
    if "unknown field" in str(error):
        return f"{error}. Known keys: {', '.join(Recipe.__struct_fields__)}."
    return f"{error}."
