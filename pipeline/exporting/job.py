"""What to make of a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from calibration.recipe import Recipe
from edge_apps.images import ImageSet
from edge_apps.runtime.precisions import Precision
from pipeline.checkpoints import user_networks
from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.errors import MissingExtra
from pipeline.quantization.calibrate import Calibration
from pipeline.targets.base import Target


@dataclass(frozen=True)
class ExportJob:
    """What to make of a checkpoint.

    ``images`` are None where there are none: files are then judged on noise, and none can be int8. ``quantization``
    says how int8 files are made: by a recipe, or with an earlier calibration, which has its own. With
    ``require_delegated`` there is no bundle unless every file that has a delegate here runs whole on it. A file that
    does not compute its network stops the job, unless its name is in ``allow_mismatch``; without ``stop_on_mismatch``
    the verdict is recorded and nothing stops.
    """

    checkpoint: Checkpoint
    files: Sequence[tuple[Target, Precision]]
    images: ImageSet | None
    quantization: Recipe | Calibration
    out: Path
    require_delegated: bool = False
    allow_mismatch: frozenset[str] = frozenset()
    stop_on_mismatch: bool = True

    @property
    def recipe(self) -> Recipe:
        """The recipe by which int8 files are made."""
        return self.quantization if isinstance(self.quantization, Recipe) else self.quantization.ranges.recipe

    @property
    def calibration(self) -> Calibration | None:
        """The earlier calibration, if there is one."""
        return None if isinstance(self.quantization, Recipe) else self.quantization

    def needs_ranges(self) -> bool:
        """Return whether any file is int8."""
        return any(precision == "int8" for _, precision in self.files)

    def names(self) -> list[str]:
        """Return the names of the files to make."""
        stem = user_networks.file_stem(self.checkpoint.spec.name)
        return [file_name(stem, target, precision) for target, precision in self.files]

    def steps(self) -> int:
        """Return how many steps ``build`` reports."""
        return 2 + len(self.files)


def file_name(stem: str, target: Target, precision: Precision) -> str:
    """``mobilenet_v2-int8.tflite``; ``stem`` is what file names of the model begin with."""
    return f"{stem}-{precision}{target.suffix}"


def check_installed(files: Sequence[tuple[Target, Precision]]) -> None:
    """Refuse before work starts what would fail after minutes."""
    for target in dict.fromkeys(target for target, _ in files):
        missing = target.missing()
        if missing:
            raise MissingExtra(f"Target '{target.name}' cannot be exported: {missing}.")
