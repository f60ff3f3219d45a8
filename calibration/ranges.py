"""Ranges: what calibration found, keyed so that they mean the same under every front end."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from calibration.dataset.dataset import CalibrationSet
from calibration.errors import BadCalibration
from calibration.recipe import Recipe
from edge_apps.json_text import indented
from edge_apps.runtime.preprocess import Preprocess
from edge_apps.untrusted import LARGEST_TEXT, parse_json, read_regular

QMIN, QMAX = -128, 127

WIDEST = 1e30
"""No network's activation comes near; float32 scales end at 3.4e38."""

INPUT = "input"
"""The key of the network's own input: the normalised image. Its range follows from the preprocessing."""


class QParams(NamedTuple):
    """value = scale · (q − zero_point), q in int8."""

    scale: float
    zero_point: int


class Range(NamedTuple):
    """The interval that int8 must cover."""

    low: float
    high: float

    def qparams(self) -> QParams:
        """Asymmetric int8 over the interval widened to include 0 (so that zero padding is exact).

        scale = (high − low) / 255, held in float32 because that is what every file format stores.
        """
        low, high = min(self.low, 0.0), max(self.high, 0.0)
        scale = float(np.float32(max((high - low) / (QMAX - QMIN), 2**-24)))
        zero_point = QMIN - round(low / scale)
        return QParams(scale, int(min(max(zero_point, QMIN), QMAX)))


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """What the repairs up to one of them did: dB of the simulated int8 logits against the float network's.

    On pictures that calibrated nothing, where there were others (``unseen``); the first effect is that of none.
    """

    repairs: tuple[str, ...]
    sqnr_db: float
    images: int
    unseen: bool


class Ranges(msgspec.Struct, frozen=True, kw_only=True):
    """One calibration's result: ``values[module path : operator : output index]`` of the network.

    checkpoint_sha256 and preprocess tie them to the weights and the input they were measured with; recipe and
    calibration_set say how. observers names the observer that chose each range (``calibration.quantize.Found``).
    repairs_sha256 is that of the repairs which belong to them, if there are any, and effects says what these did.
    """

    checkpoint_sha256: str
    preprocess: Preprocess
    recipe: Recipe
    calibration_set: CalibrationSet
    values: dict[str, Range]
    observers: dict[str, str] = {}
    repairs_sha256: str | None = None
    effects: tuple[Effect, ...] = ()

    def qparams(self, key: str) -> QParams:
        """Scale and zero point of one tensor; ``BadCalibration`` where calibration never saw it."""
        if key not in self.values:
            raise BadCalibration(
                f"No range for '{key}': these ranges belong to another network or recipe; calibrate again."
            )
        return self.values[key].qparams()

    def check_checkpoint(self, sha256: str, preprocess: Preprocess, where: str) -> None:
        """Refuse ranges of other weights, or of another input size or normalisation."""
        if self.checkpoint_sha256 != sha256:
            raise BadCalibration(
                f"Ranges in '{where}' belong to checkpoint {self.checkpoint_sha256[:12]}…, not to "
                f"{sha256[:12]}…: run 'pipeline calibrate' for this checkpoint."
            )
        if self.preprocess != preprocess:
            raise BadCalibration(
                f"Ranges in '{where}' were found at input {self.preprocess.height}×{self.preprocess.width}, this "
                f"export has {preprocess.height}×{preprocess.width} or another normalisation: calibrate again."
            )

    def to_json(self) -> bytes:
        """The file that ``pipeline calibrate`` writes."""
        return indented(self)

    def sha256(self) -> str:
        """Hash of that file."""
        return hashlib.sha256(self.to_json()).hexdigest()


def load_ranges(path: Path) -> Ranges:
    """Read ranges; ``BadCalibration`` where the file is not one."""
    try:
        data = read_regular(path, LARGEST_TEXT)
    except OSError as error:
        raise BadCalibration(f"Cannot read ranges '{path}': {error.strerror}.") from error
    return parse_ranges(data, path)


def parse_ranges(data: bytes, path: Path) -> Ranges:
    """Read the bytes of a ranges file; ``BadCalibration`` where they are not one."""
    try:
        ranges = parse_json(data, Ranges)
    except ValueError as error:
        raise BadCalibration(f"'{path}' is not a ranges file ({error}); make one with 'pipeline calibrate'.") from error
    for key, (low, high) in ranges.values.items():
        if not -WIDEST <= low <= high <= WIDEST:
            raise BadCalibration(f"'{path}': the range of '{key}' is [{low}, {high}]; calibrate again.")
    return ranges
