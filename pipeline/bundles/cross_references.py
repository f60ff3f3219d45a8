"""Whether what a bundle holds belongs together: its ranges, recipe, calibration images and recorded evaluation."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from calibration.dataset.dataset import CalibrationSet
from calibration.ranges import Ranges, parse_ranges
from calibration.recipe import Recipe, parse_recipe
from edge_apps.runtime.manifest import Bundle
from edge_apps.untrusted import parse_json
from pipeline.errors import BadManifest


def check_references(bundle: Bundle) -> None:
    """Refuse a bundle whose files do not fit each other, although each has the hash that its manifest records.

    Raises:
        BadManifest: naming what does not fit. ChangedFile: a file is not what was recorded.
    """
    roles = {file.role for file in bundle.manifest.files}
    if any(file.precision == "int8" for file in bundle.models()):
        for role in ("ranges", "recipe", "calibration-set"):
            if role not in roles:
                raise _unfit(bundle, f"has int8 files and does not list their {role}")
    if "ranges" in roles:
        ranges = ranges_of(bundle)
        for does_fit, fault in _RANGES:
            if not does_fit(ranges, bundle):
                raise _unfit(bundle, fault)


def ranges_of(bundle: Bundle) -> Ranges:
    """Read the ranges of a bundle's int8 files.

    Raises:
        BadManifest: it lists none. ChangedFile: they are not what was recorded. BadCalibration: they cannot be read.
    """
    content = bundle.read(bundle.file("ranges"))
    return parse_ranges(content.data, content.path)


def calibration_set_of(bundle: Bundle) -> CalibrationSet | None:
    """Read which images a bundle's files were calibrated on; None where it lists none."""
    listed = [file for file in bundle.manifest.files if file.role == "calibration-set"]
    if not listed:
        return None
    content = bundle.read(listed[0])
    try:
        return parse_json(content.data, CalibrationSet)
    except ValueError as error:
        raise BadManifest(f"Calibration set '{content.path}' cannot be read: {error}. Export again.") from error


def _recipe_of(bundle: Bundle) -> Recipe:
    content = bundle.read(bundle.file("recipe"))
    return parse_recipe(content.data, content.path)


def _has_repairs(bundle: Bundle) -> bool:
    return any(file.role == "repairs" for file in bundle.manifest.files)


_RANGES: tuple[tuple[Callable[[Ranges, Bundle], bool], str], ...] = (
    (
        lambda ranges, bundle: ranges.checkpoint_sha256 == bundle.manifest.provenance.checkpoint_sha256,
        "lists ranges of another checkpoint than its own",
    ),
    (
        lambda ranges, bundle: ranges.preprocess == bundle.manifest.preprocess,
        "lists ranges of another input size or normalisation than its own",
    ),
    (
        lambda ranges, bundle: ranges.calibration_set == calibration_set_of(bundle),
        "lists other calibration images than its ranges come from",
    ),
    (
        lambda ranges, bundle: ranges.recipe == _recipe_of(bundle),
        "lists another recipe than its ranges were found by",
    ),
    (
        lambda ranges, bundle: ranges.observers == bundle.manifest.observers,
        "names other observers than its ranges were found by",
    ),
    (
        lambda ranges, bundle: (ranges.repairs_sha256 is not None) == _has_repairs(bundle),
        "lists repaired weights that its ranges do not know, or lacks those that they were found with",
    ),
)


class _Measured(msgspec.Struct, frozen=True):
    """One file of a recorded evaluation."""

    path: str
    sha256: str


class _Reference(msgspec.Struct, frozen=True):
    """What the files of a recorded evaluation were compared with."""

    sha256: str


class _Evaluation(msgspec.Struct, frozen=True):
    """Of a recorded evaluation, which files it is of; what it found is read by ``pipeline.evaluation``."""

    format: int
    files: tuple[_Measured, ...]
    reference: _Reference | None


def check_evaluation(bundle: Bundle) -> None:
    """Refuse a recorded evaluation of other files, or against another checkpoint, than the bundle lists.

    Apart from ``check_references``, so that ``pipeline evaluate`` can replace it.

    Raises:
        BadManifest: naming what does not fit. ChangedFile: it is not what was recorded.
    """
    if all(file.role != "evaluation" for file in bundle.manifest.files):
        return
    content = bundle.read(bundle.file("evaluation"))
    try:
        result = parse_json(content.data, _Evaluation)
    except ValueError as error:
        raise BadManifest(f"Evaluation '{content.path}' cannot be read: {error}. Evaluate again.") from error
    measured = {file.path: file.sha256 for file in result.files}
    listed = {file.path: file.sha256 for file in bundle.models()}
    if result.reference is not None:
        measured["checkpoint"] = result.reference.sha256
        listed["checkpoint"] = bundle.manifest.provenance.checkpoint_sha256
    for name, sha256 in measured.items():
        if listed.get(name) != sha256:
            raise BadManifest(f"Bundle '{bundle.root}' lists an evaluation of another '{name}'. Evaluate again.")


def _unfit(bundle: Bundle, fault: str) -> BadManifest:
    return BadManifest(f"Bundle '{bundle.root}' {fault}: it was changed after export. Export it again.")
