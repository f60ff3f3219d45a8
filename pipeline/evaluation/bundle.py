"""Evaluation of a bundle: its own reference and graph, its own calibration set kept apart, the result kept in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from calibration.dataset.dataset import check_disjoint
from edge_apps.files import write_whole
from edge_apps.images import ImageSet
from edge_apps.runtime.device import usable_cores
from edge_apps.runtime.manifest import MANIFEST, Bundle, BundleFile, load_bundle
from edge_apps.runtime.signature import PublicKey
from pipeline.bundles.cross_references import calibration_set_of, check_references
from pipeline.bundles.reopen import checkpoint_of, rebuild
from pipeline.bundles.write import change_manifest, check_unsigned, describe
from pipeline.data.classes import order_of
from pipeline.errors import BadInput, BadManifest, MissingExtra
from pipeline.evaluation.evaluation import Candidate, Simulate, evaluate, in_bundle
from pipeline.evaluation.inference import Done, run_graph
from pipeline.evaluation.operators import unlike_manifest
from pipeline.evaluation.overlap import with_overlap
from pipeline.evaluation.results import EvaluationResult, FileResult

EVALUATION = "evaluation.json"


def evaluate_bundle(
    root: Path,
    images: ImageSet,
    *,
    against: Path | None = None,
    trust: PublicKey | None = None,
    threads: int | None = None,
    skipped: Sequence[str] = (),
) -> EvaluationResult:
    """Evaluate every model of a bundle, all verified by hash, each opened and its operators counted.

    Each is compared with the bundle's checkpoint, or with the model of the same target and precision of the bundle
    ``against``. Each int8 model is also compared with the bundle's quantized graph. ``trained_on`` of the result says
    whether the images are those that the checkpoint records as its training's, ``overlap`` which of them are, or look
    like, one that trained the network or calibrated its files. With ``trust`` both bundles must be signed by that key.

    Raises:
        BadCalibration: evaluation images that calibrated the files (of either bundle), compared by content.
        ChangedFile: a file that is not the one recorded. Untrusted: a bundle that ``trust`` did not sign.
        BadInput: the other bundle has other classes, or no counterpart of a file. BadManifest: the checkpoint is not
        the one that the bundle was made of.
        What ``evaluate`` raises.
    """
    bundle = load_bundle(root, trust)
    check_references(bundle)
    files = [in_bundle(bundle, file, file.path) for file in bundle.models()]
    if not files:
        raise BadManifest(f"Bundle '{root}' lists no model; export it again.")
    other = None if against is None else load_bundle(against, trust)
    counterparts, notes = ({}, []) if other is None else counterparts_in(other, bundle)
    reference = checkpoint_of(bundle)
    made_of = bundle.manifest.provenance.checkpoint_sha256
    if reference.sha256 != made_of:
        raise BadManifest(
            f"Bundle '{root}' was made of another checkpoint than the one it holds ({made_of[:12]}…, not "
            f"{reference.sha256[:12]}…): there is nothing to compare with. Export it again."
        )
    for one in filter(None, (bundle, other)):
        check_apart(one, images)
    threads = threads or usable_cores()
    result = evaluate(
        files,
        images,
        reference if other is None else None,
        threads=threads,
        skipped=skipped,
        counterparts=counterparts,
        simulate=_simulation(bundle, threads),
    )
    if result.reference is not None:
        # Named as the manifest names it: a bundle is moved, and where it lay while it was measured says nothing.
        named = replace(result.reference, path=bundle.file("checkpoint").path)
        result = replace(result, reference=named)
    calibrated = [calibration_set_of(one) for one in (bundle, other) if one is not None]
    result = with_overlap(result, images, reference, [chosen for chosen in calibrated if chosen is not None])
    return replace(
        result,
        files=tuple(_with_operators(bundle, result.files)),
        trained_on=reference.trained_on(images),
        notes=(*result.notes, *notes, *_kept_mismatches(bundle)),
        against=None if against is None else str(against),
    )


def record(root: Path, result: EvaluationResult) -> None:
    """Keep a result in the bundle as ``evaluation.json``, listed with its hash; an earlier one is replaced.

    The manifest never lists an evaluation that is not there as listed: the old entry goes before the new file comes.

    Raises:
        BadInput: the bundle is signed, or cannot be written.
    """
    check_unsigned(root)
    manifest = msgspec.json.decode((root / MANIFEST).read_bytes())
    others = [file for file in manifest["files"] if file["role"] != "evaluation"]
    if len(others) < len(manifest["files"]):
        change_manifest(root, files=others)
    write_whole(root / EVALUATION, result.to_json())
    entry = msgspec.to_builtins(describe(root, root / EVALUATION, "evaluation"))
    change_manifest(root, files=[*others, entry])


def counterparts_in(other: Bundle, bundle: Bundle) -> tuple[dict[str, Candidate], list[str]]:
    """For each model of ``bundle`` (by path) that of the same kind in the other; and notes on what has none here.

    Raises:
        BadInput: the same bundle twice; other classes; a model whose target and precision the other bundle has not.
    """
    if other.root.resolve() == bundle.root.resolve():
        raise BadInput(f"'{other.root}' is the bundle itself: name the bundle of an earlier release.")
    if order_of(other.manifest.labels, bundle.manifest.labels) is None:
        raise BadInput(
            f"'{other.root}' has other classes ({_some(other.manifest.labels)}) than '{bundle.root}' "
            f"({_some(bundle.manifest.labels)}): they cannot be compared."
        )
    kinds = {(file.target, file.precision): file for file in other.models()}
    missing = [_kind(file) for file in bundle.models() if (file.target, file.precision) not in kinds]
    if missing:
        raise BadInput(
            f"'{other.root}' has no {' and no '.join(missing)} to compare with; it has "
            f"{', '.join(map(_kind, kinds.values())) or 'no model'}. Export the same kinds into both, or gate without "
            "`against`."
        )
    found = {}
    for file in bundle.models():
        counterpart = kinds[file.target, file.precision]
        found[file.path] = in_bundle(other, counterpart, str(other.root / counterpart.path))
    own = {(file.target, file.precision): file for file in bundle.models()}
    gone = [_kind(file) for kind, file in kinds.items() if kind not in own]
    same = [file.path for kind, file in own.items() if file.sha256 == kinds[kind].sha256]
    notes = [f"'{other.root}' also has {', '.join(gone)}, which '{bundle.root}' has not."] if gone else []
    if same:
        notes.append(f"The same file, byte for byte, as in '{other.root}': {', '.join(same)}.")
    return found, notes


def check_apart(bundle: Bundle, images: ImageSet) -> None:
    """Refuse to judge a bundle's files on images that calibrated them.

    Raises:
        BadCalibration: naming the images. BadManifest: what ``check_references`` raises.
    """
    check_references(bundle)
    used = calibration_set_of(bundle)
    if used is not None:
        check_disjoint(used, images)


def _kept_mismatches(bundle: Bundle) -> Iterator[str]:
    for file in bundle.models():
        if file.comparison.allowed:
            why = "; ".join(file.comparison.findings)
            yield f"'{file.path}' was kept at export although it does not compute its network: it {why}."


def _simulation(bundle: Bundle, threads: int) -> Simulate | None:
    """The graph that the int8 files were lowered from, opened when it is first asked; None without such files."""
    if not any(file.precision == "int8" for file in bundle.models()):
        return None

    def simulate(pictures: NDArray[np.uint8], done: Done) -> NDArray[np.float32]:
        rebuilt = rebuild(bundle)
        if rebuilt is None:
            raise BadManifest(f"Bundle '{bundle.root}' has int8 files and lists no ranges; export it again.")
        return run_graph(rebuilt.simulator, pictures, threads, done)

    return simulate


def _with_operators(bundle: Bundle, results: Sequence[FileResult]) -> Iterator[FileResult]:
    """The results with what each opened file holds that the manifest does not list, or why it was not opened."""
    listed = {file.path: file for file in bundle.models()}
    for result in results:
        fault, uncounted = None, None
        try:
            fault = unlike_manifest(bundle, listed[result.path])
        except MissingExtra as error:
            uncounted = str(error)
        yield replace(result, unlike_manifest=fault or result.unlike_manifest, uncounted=uncounted)


def _kind(file: BundleFile) -> str:
    return f"{file.target} {file.precision}"


def _some(labels: Sequence[str]) -> str:
    return f"{len(labels)}: {', '.join(labels[:3])}{', …' if len(labels) > 3 else ''}"
