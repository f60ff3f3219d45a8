"""Evaluation of a bundle: its own float reference, its own calibration set kept apart, the result kept in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from calibration.dataset import CalibrationSet, check_disjoint
from edge_apps.files import write_whole
from edge_apps.images import ImageSet
from edge_apps.runtime.manifest import MANIFEST, Bundle, load_bundle
from pipeline.accuracy.evaluation import Candidate, evaluate
from pipeline.accuracy.results import EvaluationResult
from pipeline.bundle import describe
from pipeline.errors import BadManifest
from pipeline.rebuild import checkpoint_of

EVALUATION = "evaluation.json"


def evaluate_bundle(
    root: Path, images: ImageSet, *, threads: int | None = None, skipped: Sequence[str] = ()
) -> EvaluationResult:
    """Evaluate every model of a bundle against the bundle's checkpoint, all verified by hash.

    Raises:
        BadCalibration: evaluation images that calibrated the files, compared by content. ChangedFile: a file that is
            not the one recorded. What ``evaluate`` raises.
    """
    bundle = load_bundle(root)
    files = [Candidate(bundle.verified(file), file.path, file.target, file.precision) for file in bundle.models()]
    if not files:
        raise BadManifest(f"Bundle '{root}' lists no model; export it again.")
    reference = checkpoint_of(bundle)
    check_apart(bundle, images)
    result = evaluate(files, images, reference, threads=threads, skipped=skipped)
    assert result.reference is not None
    # Named as the manifest names it: a bundle is moved, and where it lay while it was measured says nothing.
    named = msgspec.structs.replace(result.reference, path=bundle.file("checkpoint").path)
    return msgspec.structs.replace(result, reference=named)


def record(root: Path, result: EvaluationResult) -> None:
    """Keep a result in the bundle as ``evaluation.json``, listed with its hash; an earlier one is replaced.

    The manifest never lists an evaluation that is not there as listed: the old entry goes before the new file comes.

    Raises:
        BadInput: the bundle cannot be written.
    """
    path = root / MANIFEST
    # As plain JSON, not as BundleManifest: what a newer version wrote beside what we know stays.
    manifest = msgspec.json.decode(path.read_bytes())
    others = [file for file in manifest["files"] if file["role"] != "evaluation"]
    if len(others) < len(manifest["files"]):
        _write(path, {**manifest, "files": others})
    write_whole(root / EVALUATION, result.to_json())
    entry = msgspec.to_builtins(describe(root, root / EVALUATION, "evaluation"))
    _write(path, {**manifest, "files": [*others, entry]})


def check_apart(bundle: Bundle, images: ImageSet) -> None:
    """Refuse to judge a bundle's files on pictures that calibrated them; ``BadCalibration``."""
    for file in bundle.manifest.files:
        if file.role == "calibration-set":
            path = bundle.verified(file)
            try:
                used = msgspec.json.decode(path.read_bytes(), type=CalibrationSet)
            except msgspec.DecodeError as error:
                raise BadManifest(f"Calibration set '{path}' cannot be read: {error}. Export again.") from error
            check_disjoint(used, images)


def _write(path: Path, manifest: dict[str, Any]) -> None:
    write_whole(path, msgspec.json.format(msgspec.json.encode(manifest), indent=1))
