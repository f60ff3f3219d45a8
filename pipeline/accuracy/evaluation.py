"""Evaluation: the float network and every file on the same images, through the code that a device runs.

Pictures are decoded and preprocessed once; the files and the float network get the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from edge_apps.console import progress_bar
from edge_apps.errors import first_line
from edge_apps.images import ImageSet
from edge_apps.runtime.device import usable_cores
from edge_apps.runtime.manifest import FileManifest, sha256_of
from edge_apps.runtime.preprocess import Preprocess
from edge_apps.runtime.runner import model_files, open_runner
from pipeline.accuracy.inference import Done, run_file, run_network
from pipeline.accuracy.paired import agreement, drop_interval, mcnemar_p, paired_table
from pipeline.accuracy.results import FORMAT, Comparison, EvaluationResult, FileResult, ReferenceResult
from pipeline.data.classes import check_classes
from pipeline.data.reading import digest, load_all
from pipeline.errors import BadInput, MissingExtra, NotRunHere

if TYPE_CHECKING:
    from pipeline.checkpoint import Checkpoint

CONFIDENCE = 0.95

_COLUMNS = (
    TextColumn("{task.description}"),
    BarColumn(),
    MofNCompleteColumn(),
    TimeRemainingColumn(elapsed_when_finished=True),
)


@dataclass(frozen=True)
class Candidate:
    """A file to evaluate. ``name`` is how it is shown; a bundle also knows target and precision of what cannot run."""

    path: Path
    name: str
    target: str | None = None
    precision: str | None = None


def candidates(paths: Sequence[Path]) -> list[Candidate]:
    """Single files as candidates; one that lies in a bundle is held to its recorded hash (``ChangedFile``)."""
    return [Candidate(file, str(file)) for path in paths for file in model_files(path)]


def evaluate(
    files: Sequence[Candidate],
    images: ImageSet,
    reference: Checkpoint | None,
    *,
    threads: int | None = None,
    skipped: Sequence[str] = (),
    confidence: float = CONFIDENCE,
) -> EvaluationResult:
    """Measure top-1 and top-5 of every file and, given a reference, what each lost against it.

    A file that this machine cannot run is "not run"; one that answers with NaN or infinity, or that its runtime
    gives up on, has failed. ``skipped`` names pictures that were left out, for the record.

    Raises:
        BadInput: classes of the data are not the labels of a file or of the reference; a file takes other bytes than
            the reference; the reference gives NaN; no picture. BadImage: a corrupt picture. BadManifest: a file that
            does not describe itself.
    """
    if not len(images):
        raise BadInput(f"'{images.name}' has no pictures to evaluate on.")
    threads = threads or usable_cores()
    looks = [_look_at(file, threads) for file in files]
    notes = _check(looks, images, reference)
    inputs = {look.manifest.preprocess for look in looks if look.manifest}
    if reference is not None:
        inputs.add(reference.preprocess)
    pixels = {preprocess: load_all(images, preprocess).images for preprocess in inputs}
    with progress_bar(*_COLUMNS, transient=True) as bars:
        evaluation = _Evaluation(images, pixels, threads, confidence, bars)
        reference_result = None if reference is None else evaluation.of_reference(reference)
        results = [evaluation.of_file(look) for look in looks]
    classes = len(images.classes)
    if classes <= 5:
        notes.append(f"With {classes} classes top-5 is always right: it means nothing here.")
    return EvaluationResult(
        format=FORMAT,
        data=images.name,
        data_sha256=digest(images),
        images=len(images),
        skipped=tuple(skipped),
        classes=classes,
        top_k=min(5, classes),
        confidence=confidence,
        threads=threads,
        reference=reference_result,
        files=tuple(results),
        notes=tuple(notes),
    )


def rank_of_label(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many classes, int64 ``[N]``, come before the true one: 0 is top-1, below 5 is top-5.

    Of equal logits the lower class index comes first, as in argmax.
    """
    own = np.take_along_axis(logits, labels[:, None], axis=1)
    earlier = np.arange(logits.shape[1])[None, :] < labels[:, None]
    before: NDArray[np.int64] = ((logits > own) | ((logits == own) & earlier)).sum(axis=1)
    return before


@dataclass(frozen=True)
class _Look:
    """A candidate and what it says of itself, or why it cannot run here."""

    file: Candidate
    manifest: FileManifest | None
    reason: str | None


def _look_at(file: Candidate, threads: int) -> _Look:
    """Open and close: a foreign file, or one without its runtime, is met before any work is done."""
    try:
        runner = open_runner(file.path, threads)
    except (NotRunHere, MissingExtra) as error:
        return _Look(file, None, str(error))
    manifest = runner.manifest
    runner.close()
    return _Look(file, manifest, None)


def _check(looks: Sequence[_Look], images: ImageSet, reference: Checkpoint | None) -> list[str]:
    """Refuse what cannot be compared; return notes on what can but is unusual."""
    if reference is not None:
        check_classes(images, reference.labels)
    notes = []
    for look in looks:
        if look.manifest is None:
            continue
        check_classes(images, look.manifest.labels)
        if reference is None:
            continue
        if look.manifest.preprocess != reference.preprocess:
            raise BadInput(
                f"'{look.file.name}' takes other bytes than the reference '{reference.path}' "
                f"({_words(look.manifest.preprocess)}, not {_words(reference.preprocess)}): they cannot be compared."
            )
        if look.manifest.provenance.checkpoint_sha256 != reference.sha256:
            notes.append(f"'{look.file.name}' was made from another checkpoint than the reference '{reference.path}'.")
    return notes


def _words(preprocess: Preprocess) -> str:
    crop = f" cut from {preprocess.resize_to}" if preprocess.resize == "crop" else ""
    return f"{preprocess.height}×{preprocess.width}{crop}, mean {preprocess.mean}, std {preprocess.std}"


class _Evaluation:
    """The pictures of one evaluation, and what the float network answered."""

    def __init__(
        self,
        images: ImageSet,
        pixels: dict[Preprocess, NDArray[np.uint8]],
        threads: int,
        confidence: float,
        bars: Progress,
    ) -> None:
        self._labels = np.asarray(images.labels, np.int64)
        self._pixels = pixels
        self._threads = threads
        self._confidence = confidence
        self._bars = bars
        self._reference_logits: NDArray[np.float32] | None = None

    def of_reference(self, reference: Checkpoint) -> ReferenceResult:
        answers = run_network(
            reference.network(),
            reference.preprocess,
            self._pixels[reference.preprocess],
            self._threads,
            self._bar("float network"),
        )
        if not np.isfinite(answers.logits).all():
            raise BadInput(f"The float network of '{reference.path}' gives NaN or infinite logits: nothing to compare.")
        self._reference_logits = answers.logits
        top1, top5 = self._accuracies(answers.logits)
        return ReferenceResult(
            path=str(reference.path),
            sha256=reference.sha256,
            top1=top1,
            top5=top5,
            images_per_second=round(answers.images_per_second, 1),
        )

    def of_file(self, look: _Look) -> FileResult:
        file, manifest = look.file, look.manifest
        result = FileResult(
            path=file.name,
            sha256=sha256_of(file.path),
            status="not run",
            target=manifest.target if manifest else file.target,
            precision=manifest.precision if manifest else file.precision,
            reason=look.reason,
        )
        if manifest is None:
            return result
        pictures = self._pixels[manifest.preprocess]
        try:
            answers = run_file(file.path, pictures, self._threads, self._bar(file.name))
        except Exception as error:  # a runtime may raise anything; the other files are still worth measuring
            reason = first_line(error)
            return replace(result, status="failed", reason=f"{type(error).__name__}: {reason}")
        finite = np.isfinite(answers.logits).all(axis=1)
        if not finite.all():
            reason = f"NaN or infinite logits for {int((~finite).sum())} of {len(pictures)} images"
            return replace(result, status="failed", runtime=answers.runtime, reason=reason)
        top1, top5 = self._accuracies(answers.logits)
        return replace(
            result,
            status="run",
            runtime=answers.runtime,
            top1=top1,
            top5=top5,
            comparison=self._compare(answers.logits),
            images_per_second=round(answers.images_per_second, 1),
        )

    def _bar(self, title: str) -> Done:
        task = self._bars.add_task(title, total=len(self._labels))
        return lambda finished: self._bars.advance(task, finished)

    def _accuracies(self, logits: NDArray[np.float32]) -> tuple[float, float]:
        rank = rank_of_label(logits, self._labels)
        return float((rank < 1).mean()), float((rank < 5).mean())

    def _compare(self, logits: NDArray[np.float32]) -> Comparison | None:
        if self._reference_logits is None:
            return None
        said, reference_said = logits.argmax(axis=1), self._reference_logits.argmax(axis=1)
        table = paired_table(reference_said == self._labels, said == self._labels)
        interval = drop_interval(table, self._confidence)
        return Comparison(
            both=table.both,
            lost=table.lost,
            gained=table.gained,
            neither=table.neither,
            drop_points=100 * table.drop,
            interval_points=(100 * interval.low, 100 * interval.high),
            mcnemar_p=mcnemar_p(table),
            agreement=agreement(reference_said, said),
        )
