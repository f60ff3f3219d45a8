"""``export --search``: find the fewest float layers, make the files, judge them once, say what they cost."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np

from calibration.dataset.dataset import CalibrationSet, check_disjoint
from edge_apps import progress
from edge_apps.images import ImageSet, sha256
from edge_apps.runtime.content import Content
from edge_apps.runtime.manifest import Bundle, BundleFile, load_bundle
from edge_apps.runtime.precisions import Precision
from edge_apps.runtime.runner import open_runner, runs_elsewhere
from edge_apps.runtime.search_record import ImagesUsed, JudgedFile, SearchCost, SearchFound, SearchRecord
from pipeline.benchmarking.latency import measure
from pipeline.bundles.write import change_manifest, staged
from pipeline.data.classes import absent_classes, coverage, matched
from pipeline.data.distinct import distinct
from pipeline.data.held_back import judged_subset
from pipeline.data.held_out import held_out
from pipeline.data.reading import digest, load_all
from pipeline.errors import BadCalibration, BadInput, EdgeError, MissingExtra
from pipeline.evaluation.bundle import evaluate_bundle, record
from pipeline.evaluation.overlap import trained_images
from pipeline.exporting.job import ExportJob, check_installed
from pipeline.exporting.prepare import Material, any_in_int8, prepare
from pipeline.exporting.write import write
from pipeline.gating.judge import GatePolicy, GateResult, check_limit, judge
from pipeline.gating.messages import trained_on_some
from pipeline.metrics.paired import PairedTable, drop_interval, images_to_decide
from pipeline.precision_search.search import Search
from pipeline.quantization.calibrate import remarks
from pipeline.quantization.captured import Captured
from pipeline.targets.base import Target

RANK_IMAGES = 2000
"""Pictures that layers are ranked and trials made on, unless another number is asked for."""


@dataclass(frozen=True)
class SearchJob:
    """What to export, and how it is judged.

    ``rank`` holds the pictures to rank layers on; None: those of ``job.images`` that calibrate nothing. At most
    ``rank_images`` are drawn.
    """

    job: ExportJob
    policy: GatePolicy
    judge: ImageSet
    rank: ImageSet | None = None
    rank_images: int = RANK_IMAGES


@dataclass(frozen=True)
class Outcome:
    """What the gate said; there is a bundle where it let the files pass."""

    gate: GateResult
    found: SearchFound
    bundle: Bundle | None


def search(asked: SearchJob) -> Outcome:
    """Search, make the bundle, judge it once; it appears at ``job.out`` only if it passed.

    Raises:
        BadInput: what ``check_files`` raises; a limit that the gate would refuse of any files, or judging pictures
            that are too few for it. BadCalibration: judging pictures that calibrated or ranked. EdgeError: only all
            layers in float would do, or not even those. What ``build`` raises.
    """
    job, policy = asked.job, asked.policy
    if job.checkpoint.trained_on(asked.judge):
        raise BadInput(f"The network was trained on `judge` '{asked.judge.name}': judge on pictures of no other use.")
    if seen := trained_images(asked.judge, job.checkpoint):
        raise BadInput(trained_on_some(seen, asked.judge.name))
    check_installed(job.files)
    check_files(job.files)
    judging, _ = distinct(asked.judge)
    _check(job, policy, judging)
    images = job.images
    assert images is not None, "a search was planned without images"
    for line in coverage(judging, job.checkpoint.labels):
        progress.note(line)
    to_rank = matched(asked.rank or images, job.checkpoint.labels)
    ranked_on = to_rank

    def check(_captured: Captured, chosen: CalibrationSet) -> None:
        nonlocal ranked_on
        for line in remarks(chosen) if job.calibration is None else ():
            progress.note(line)
        ranked_on = _ranked_on(asked, to_rank, images, chosen)
        check_disjoint(chosen, judging)
        _check_apart(ranked_on, judging)

    plain = prepare(job, check)
    assert plain.calibration is not None, "check_files has seen to it"

    pixels = load_all(ranked_on, job.checkpoint.preprocess)
    found = Search(plain.captured, plain.calibration, pixels.images, pixels.labels, policy, len(judging)).find()
    if found.float_layers is None:
        raise EdgeError(
            "Even with every convolution and linear layer in float the drop is expected to reach "
            f"{found.chosen.expected_upper_points:.2f} points on the judging pictures; the limit is "
            f"{policy.max_drop:g}. Nothing was judged or written: give `judge` and `rank` more pictures, or choose a "
            "higher `max_drop`."
        )
    mixed = plain.with_float(found.float_layers)
    if not any_in_int8(mixed.captured, mixed.job.recipe):
        raise EdgeError(
            "No int8 file was found that holds the limit: only with every convolution and linear layer in float is the "
            f"drop expected to stay within {policy.max_drop:g} points on the judging pictures. Nothing was judged or "
            "written: export `precision=fp32`, try `repair` or another `observer`, or choose a higher `max_drop`."
        )
    with tempfile.TemporaryDirectory() as scratch:
        made = write(_to(mixed, Path(scratch) / "mixed", job.files, require_delegated=job.require_delegated))
        progress.note("Judging")
        evaluation = evaluate_bundle(made.root, judging)
        verdict = judge(evaluation, msgspec.structs.replace(policy, allow_not_run=_elsewhere(job.files)))
        if verdict.verdict != "passed":
            return Outcome(verdict, found, None)
        progress.note("Measuring what it cost")
        record(made.root, evaluation)
        noted = SearchRecord(
            max_drop=policy.max_drop,
            confidence=policy.confidence,
            rank=_used(ranked_on),
            found=found,
            judge=_used(judging),
            judged=tuple(
                JudgedFile(
                    path=file.path,
                    verdict=file.verdict,
                    drop_points=file.drop_points,
                    interval_points=file.interval_points,
                )
                for file in verdict.files
            ),
            cost=_cost(plain, made, "mixed" if found.float_layers else "int8", Path(scratch) / "plain"),
        )
        change_manifest(made.root, search=msgspec.to_builtins(noted))
        with staged(job.out) as folder:
            shutil.copytree(made.root, folder, dirs_exist_ok=True)
    return Outcome(verdict, found, load_bundle(job.out))


def _ranked_on(asked: SearchJob, to_rank: ImageSet, images: ImageSet, chosen: CalibrationSet) -> ImageSet:
    """Draw the images that layers are ranked on: none that calibrated, and none that the files are judged on after it.

    Without --rank they come from the data of the calibration, of which ``build`` judges the files on a few.
    """
    judged = judged_subset(images, asked.job.recipe.seed, chosen)
    besides = () if judged is None else tuple(sha256(judged, index) for index in range(len(judged)))
    return held_out(to_rank, asked.rank_images, asked.job.recipe.seed, chosen, besides)


def check_files(files: Sequence[tuple[Target, Precision]]) -> None:
    """Refuse at once what could not be searched for, or not be judged on this machine.

    Raises:
        BadInput: no int8 file, or no file of a kind that can run here. MissingExtra: a file's runtime is not installed.
    """
    if not any(precision == "int8" for _, precision in files):
        raise BadInput("`search` is for int8 files, and none is asked for: leave it out.")
    reasons = [runs_elsewhere(target.suffix) for target, _ in files]
    if all(reasons):
        why = "; ".join(dict.fromkeys(map(str, reasons)))
        raise BadInput(f"Nothing can be judged here: {why}. Add another `target`.")
    for target in dict.fromkeys(target for target, _ in files):
        if runs_elsewhere(target.suffix) is None:
            _check_runtime(target)


def _check_runtime(target: Target) -> None:
    """A runtime looks for its library before it looks at the file: an empty one tells whether it is there."""
    try:
        open_runner(Content(Path(f"empty{target.suffix}"), {"": b""})).close()
    except MissingExtra as error:
        raise MissingExtra(f"`search` judges every file, and those for '{target.name}' cannot run: {error}") from error
    except BadInput:
        pass  # it is there, and says that this is no file of its kind


def _check(job: ExportJob, policy: GatePolicy, judging: ImageSet) -> None:
    """Refuse at once what could not end well."""
    labels = job.checkpoint.labels
    sizes = np.bincount(matched(judging, labels).labels, minlength=len(labels))
    check_limit(policy, sizes.tolist(), labels, judging.name, absent=absent_classes(judging, labels))
    faultless = PairedTable(len(judging), 0, 0, 0)
    if drop_interval(faultless, policy.confidence).high > policy.max_drop / 100:
        needed = images_to_decide(faultless, policy.max_drop / 100, policy.confidence)
        enough = "no number of pictures is enough" if needed is None else f"at least {needed:,} are needed"
        raise BadInput(
            f"`judge` has {len(judging)} different pictures: too few to show a drop of at most {policy.max_drop:g} "
            f"points even for files without a single loss; {enough}."
        )


def _check_apart(ranked_on: ImageSet, judged_on: ImageSet) -> None:
    """``BadCalibration`` where a picture is in both, by content."""
    ranked = {sha256(ranked_on, index): ranked_on.item_name(index) for index in range(len(ranked_on))}
    for index in range(len(judged_on)):
        if (name := ranked.get(sha256(judged_on, index))) is not None:
            raise BadCalibration(
                f"Layers would be ranked on pictures that judge: '{judged_on.item_name(index)}' of `judge` is '{name}' "
                f"of '{ranked_on.name}'. Judge on pictures that were used for nothing else."
            )


def _to(
    material: Material, out: Path, files: Sequence[tuple[Target, Precision]], *, require_delegated: bool
) -> Material:
    """The same, to be written elsewhere; the gate judges it, so no mismatch stops it."""
    job = replace(material.job, out=out, files=files, require_delegated=require_delegated, stop_on_mismatch=False)
    return replace(material, job=job, calibration=material.calibration if job.needs_ranges() else None)


def _elsewhere(files: Sequence[tuple[Target, Precision]]) -> tuple[str, ...]:
    """Targets whose files this machine cannot run, whatever is installed: no others may go unjudged."""
    return tuple(sorted({target.name for target, _ in files if runs_elsewhere(target.suffix)}))


def _run_here(bundle: Bundle) -> list[BundleFile]:
    return [file for file in bundle.models() if file.comparison.status == "run"]


def _cost(material: Material, made: Bundle, kind: str, out: Path) -> tuple[SearchCost, ...]:
    """Of the bundle's int8 files, which are of this kind, against fp32 and int8, which are made for it."""
    searched = {file.target: file for file in _run_here(made) if file.precision == "int8"}
    asked = dict.fromkeys(target for target, _ in material.job.files)
    targets = [target for target in asked if target.name in searched]
    compared: tuple[Precision, ...] = ("fp32", "int8") if kind == "mixed" else ("fp32",)
    files = [(target, precision) for target in targets for precision in compared]
    with progress.shown_by(progress.Silent()):
        plain = write(_to(material, out, files, require_delegated=False))
    costs = []
    for target in targets:
        contents = {str(file.precision): plain.read(file) for file in plain.models() if file.target == target.name}
        contents[kind] = made.read(searched[target.name])
        times = measure(list(contents.values()))
        costs.append(
            SearchCost(
                target=target.name,
                bytes={name: content.size for name, content in contents.items()},
                median_ms={name: round(time.p50, 4) for name, time in zip(contents, times, strict=True)},
            )
        )
    return tuple(costs)


def _used(images: ImageSet) -> ImagesUsed:
    return ImagesUsed(data=images.name, images=len(images), sha256=digest(images))
