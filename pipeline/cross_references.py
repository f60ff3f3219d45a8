"""Whether what a bundle holds belongs together: its ranges, recipe, calibration images and recorded evaluation."""

from __future__ import annotations

from collections.abc import Callable

from calibration.recipe import Recipe, parse_recipe
from edge_apps.runtime.manifest import Bundle
from edge_apps.untrusted import parse_json
from pipeline.accuracy.results import EvaluationResult
from pipeline.errors import BadManifest
from pipeline.rebuild import Rebuilt, calibration_set_of, rebuild


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
    rebuilt = rebuild(bundle)
    if rebuilt is not None:
        for does_fit, fault in _RANGES:
            if not does_fit(rebuilt):
                raise _unfit(bundle, fault)
    if "evaluation" in roles:
        _check_evaluation(bundle)


_RANGES: tuple[tuple[Callable[[Rebuilt], bool], str], ...] = (
    (
        lambda one: one.ranges.checkpoint_sha256 == one.bundle.manifest.provenance.checkpoint_sha256,
        "lists ranges of another checkpoint than its own",
    ),
    (
        lambda one: one.ranges.preprocess == one.bundle.manifest.preprocess,
        "lists ranges of another input size or normalisation than its own",
    ),
    (
        lambda one: calibration_set_of(one.bundle) == one.ranges.calibration_set,
        "lists other calibration images than its ranges come from",
    ),
    (lambda one: _recipe(one.bundle) == one.ranges.recipe, "lists another recipe than its ranges were found by"),
    (
        lambda one: one.ranges.observers == one.bundle.manifest.observers,
        "names other observers than its ranges were found by",
    ),
    (
        lambda one: (
            (one.ranges.repairs_sha256 is None) == all(file.role != "repairs" for file in one.bundle.manifest.files)
        ),
        "lists repaired weights that its ranges do not know, or lacks those that they were found with",
    ),
)


def _recipe(bundle: Bundle) -> Recipe:
    content = bundle.read(bundle.file("recipe"))
    return parse_recipe(content.data, content.path)


def _check_evaluation(bundle: Bundle) -> None:
    """What is recorded as measured must have been measured on the files that are listed."""
    content = bundle.read(bundle.file("evaluation"))
    try:
        result = parse_json(content.data, EvaluationResult)
    except ValueError as error:
        raise BadManifest(f"Evaluation '{content.path}' cannot be read: {error}. Evaluate again.") from error
    listed = {file.path: file.sha256 for file in bundle.models()}
    for file in result.files:
        if listed.get(file.path) != file.sha256:
            raise _unfit(bundle, f"lists an evaluation of another '{file.path}' than its own")


def _unfit(bundle: Bundle, fault: str) -> BadManifest:
    return BadManifest(f"Bundle '{bundle.root}' {fault}: it was changed after export. Export it again.")
