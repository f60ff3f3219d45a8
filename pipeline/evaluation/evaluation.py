"""Evaluation: the float network and every file on the same images, through the code that a device runs.

Pictures are decoded and preprocessed once; the files and the float network get the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as with_changes
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from edge_apps import progress
from edge_apps.errors import first_line
from edge_apps.images import ImageSet
from edge_apps.runtime.device import usable_cores
from edge_apps.runtime.manifest import Bundle, BundleFile, FileManifest
from edge_apps.runtime.model_file import ModelFile, contradiction, read_model, vanished
from edge_apps.runtime.preprocess import Preprocess
from edge_apps.runtime.runner import open_runner
from edge_apps.runtime.signature import PublicKey
from pipeline.data.classes import absent_classes, matched, order_of
from pipeline.data.distinct import distinct
from pipeline.data.reading import digest, load_all
from pipeline.errors import BadInput, MissingExtra, NotRunHere
from pipeline.evaluation.inference import Answers, Done, run_file, run_network
from pipeline.evaluation.parity import drawn, drift
from pipeline.evaluation.results import (
    FORMAT,
    Comparison,
    Counts,
    Drift,
    EvaluationResult,
    FileResult,
    ReferenceResult,
)
from pipeline.metrics.guessing import about_majority
from pipeline.metrics.paired import agreement, drop_interval, mcnemar_p, paired_table

if TYPE_CHECKING:
    from pipeline.checkpoints.checkpoint import Checkpoint

CONFIDENCE = 0.95

Simulate = Callable[[NDArray[np.uint8], Done], NDArray[np.float32]]
"""Logits float32 ``[n, K]`` of the quantized graph for pictures uint8 ``[n, H, W, 3]``."""


@dataclass(frozen=True)
class Candidate:
    """A file to evaluate.

    read returns its content, checked each time; large files are not held while others are measured. name is how it is
    shown. A bundle also knows target and precision of what cannot run.
    """

    read: Callable[[], ModelFile]
    name: str
    target: str | None = None
    precision: str | None = None


def candidates(paths: Sequence[Path], trust: PublicKey | None = None) -> list[Candidate]:
    """Single files as candidates; with ``trust`` each must lie in a bundle that this key signed.

    Raises what ``read_model`` raises.
    """
    return [Candidate(partial(_same, read_model(path, trust)), str(path)) for path in paths]


def in_bundle(bundle: Bundle, file: BundleFile, name: str) -> Candidate:
    """A model of a bundle as a candidate."""
    return Candidate(partial(ModelFile.in_bundle, bundle, file), name, file.target, file.precision)


def _same(file: ModelFile) -> ModelFile:
    return file


def evaluate(
    files: Sequence[Candidate],
    images: ImageSet,
    reference: Checkpoint | None,
    *,
    threads: int | None = None,
    skipped: Sequence[str] = (),
    confidence: float = CONFIDENCE,
    counterparts: Mapping[str, Candidate] | None = None,
    simulate: Simulate | None = None,
) -> EvaluationResult:
    """Measure top-1 and top-5 of every file and, given a reference, what each lost against it.

    Classes are matched by name: the data's folders and each file's labels may have any order, and the data may lack
    classes, which the result names. A file that this machine cannot run is "not run"; one that answers with NaN or
    infinity, or that its runtime gives up on, has failed. Every picture counts once, however many copies of it the data
    has. ``skipped`` names pictures that were left out, for the record. ``counterparts`` (by a file's name) are what
    files are compared with where there is no ``reference``. ``simulate`` is the quantized graph that the int8 files
    were lowered from.

    Raises:
        BadInput: a class of the data is no label; files or the reference have other labels than each other; a file
            takes other bytes than the reference; the reference or a counterpart gives NaN; no picture. BadImage: a
            corrupt picture. BadManifest: a file that does not describe itself.
    """
    if not len(images):
        raise BadInput(f"'{images.name}' has no pictures to evaluate on.")
    images, repeated = distinct(images)
    threads = threads or usable_cores()
    looks = [_look_at(file, threads) for file in files]
    others = {name: _look_at(other, threads) for name, other in (counterparts or {}).items()}
    labels = _common_labels((*looks, *others.values()), reference, images)
    named = matched(images, labels)
    notes = _check(looks, reference)
    inputs = {look.manifest.preprocess for look in (*looks, *others.values()) if look.manifest}
    if reference is not None:
        inputs.add(reference.preprocess)
    pixels = {preprocess: load_all(images, preprocess).images for preprocess in inputs}
    evaluation = _Evaluation(named, pixels, threads, confidence, simulate)
    reference_result = None if reference is None else evaluation.of_reference(reference)
    results = [evaluation.of_file(look, others.get(look.file.name)) for look in looks]
    classes = len(labels)
    notes += _about_majority(named, reference_result, results)
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
        labels=labels,
        repeated=repeated,
        absent_classes=absent_classes(images, labels),
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
    """A candidate, its hash, and what it says of itself, or why it cannot run here.

    fault: in what it says other of itself than the bundle that it lies in.
    """

    file: Candidate
    sha256: str
    manifest: FileManifest | None
    reason: str | None
    fault: str | None = None


def _look_at(file: Candidate, threads: int) -> _Look:
    """Open and close: a foreign file, or one without its runtime, is met before any work is done."""
    found = file.read()
    try:
        runner = open_runner(found.content, threads)
    except (NotRunHere, MissingExtra) as error:
        return _Look(file, found.content.sha256, None, str(error))
    manifest = runner.manifest
    runner.close()
    return _Look(file, found.content.sha256, manifest, None, _fault(found, manifest))


def _fault(found: ModelFile, manifest: FileManifest) -> str | None:
    if found.bundle is None or found.listed is None:
        return None
    about = found.bundle.manifest
    return contradiction(about, found.listed, manifest) or vanished(about, manifest)


def _common_labels(looks: Sequence[_Look], reference: Checkpoint | None, images: ImageSet) -> tuple[str, ...]:
    """The labels of all that is measured, in one order; those of the data where nothing can be run."""
    labelled = [] if reference is None else [(str(reference.path), reference.labels)]
    labelled += [(look.file.name, look.manifest.labels) for look in looks if look.manifest]
    if not labelled:
        return images.classes
    first, labels = labelled[0]
    for name, others in labelled[1:]:
        if order_of(others, labels) is None:
            raise BadInput(f"'{name}' has other classes than '{first}': they cannot be compared.")
    return labels


def _check(looks: Sequence[_Look], reference: Checkpoint | None) -> list[str]:
    """Refuse what cannot be compared; return notes on what can but is unusual."""
    notes = []
    for look in looks:
        if look.manifest is None or reference is None:
            continue
        if look.manifest.preprocess != reference.preprocess:
            raise BadInput(
                f"'{look.file.name}' takes other bytes than the reference '{reference.path}' "
                f"({_words(look.manifest.preprocess)}, not {_words(reference.preprocess)}): they cannot be compared."
            )
        if look.manifest.provenance.checkpoint_sha256 != reference.sha256:
            notes.append(f"'{look.file.name}' was made from another checkpoint than the reference '{reference.path}'.")
    return notes


def _about_majority(images: ImageSet, reference: ReferenceResult | None, files: Sequence[FileResult]) -> Iterator[str]:
    """Whether the network does not beat a constant answer: judged by the float network, otherwise by each file."""
    measured = [("The float network", reference.top1)] if reference is not None else []
    measured = measured or [(f"'{file.path}'", file.top1) for file in files if file.top1 is not None]
    said = (about_majority(name, top1, images.labels, images.classes, images.name) for name, top1 in measured)
    yield from dict.fromkeys(filter(None, said))


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
        simulate: Simulate | None,
    ) -> None:
        self._classes = images.classes
        self._labels = np.asarray(images.labels, np.int64)
        self._pixels = pixels
        self._threads = threads
        self._confidence = confidence
        self._simulate = simulate
        self._drawn = drawn(images.labels)
        self._simulated: NDArray[np.float32] | None = None
        self._reference_said: NDArray[np.int64] | None = None

    def of_reference(self, reference: Checkpoint) -> ReferenceResult:
        pixels = self._pixels[reference.preprocess]
        with progress.track("float network", len(pixels)) as task:
            answers = run_network(reference.network(), reference.preprocess, pixels, self._threads, task.advance)
        if not np.isfinite(answers.logits).all():
            raise BadInput(f"The float network of '{reference.path}' gives NaN or infinite logits: nothing to compare.")
        self._reference_said = answers.logits.argmax(axis=1)
        top1, top5 = self._accuracies(answers.logits)
        return ReferenceResult(
            path=str(reference.path),
            sha256=reference.sha256,
            top1=top1,
            top5=top5,
            images_per_second=round(answers.images_per_second, 1),
        )

    def of_file(self, look: _Look, counterpart: _Look | None) -> FileResult:
        file, manifest = look.file, look.manifest
        result = FileResult(
            path=file.name,
            sha256=look.sha256,
            status="not run",
            target=manifest.target if manifest else file.target,
            precision=manifest.precision if manifest else file.precision,
            reason=look.reason,
            made_of=manifest.provenance.checkpoint_sha256 if manifest else None,
            unlike_manifest=look.fault,
        )
        if manifest is None:
            return result
        if counterpart is not None and counterpart.manifest is None:
            reason = f"Not compared, because '{counterpart.file.name}' is not run: {counterpart.reason}"
            return replace(result, reason=reason)
        try:
            answers = self._run(file, manifest)
        except Exception as error:  # a runtime may raise anything; the other files are still worth measuring
            return replace(result, status="failed", reason=f"{type(error).__name__}: {first_line(error)}")
        fault = _no_numbers(answers.logits)
        if fault:
            return replace(result, status="failed", runtime=answers.runtime, reason=fault)
        top1, top5 = self._accuracies(answers.logits)
        return replace(
            result,
            status="run",
            runtime=answers.runtime,
            top1=top1,
            top5=top5,
            comparison=self._compare(answers.logits, counterpart),
            drift=self._drift(answers.logits, manifest) if manifest.precision == "int8" else None,
            images_per_second=round(answers.images_per_second, 1),
        )

    def _run(self, file: Candidate, manifest: FileManifest) -> Answers:
        """The file's answers, its logits in the order of the evaluation's classes."""
        pixels = self._pixels[manifest.preprocess]
        with progress.track(file.name, len(pixels)) as task:
            answers = run_file(file.read().content, pixels, self._threads, task.advance)
        order = order_of(manifest.labels, self._classes)
        assert order is not None, "_common_labels has seen to it"
        return with_changes(answers, logits=answers.logits[:, order])

    def _accuracies(self, logits: NDArray[np.float32]) -> tuple[float, float]:
        rank = rank_of_label(logits, self._labels)
        return float((rank < 1).mean()), float((rank < 5).mean())

    def _compare(self, logits: NDArray[np.float32], counterpart: _Look | None) -> Comparison | None:
        reference_said = self._reference_said if counterpart is None else self._said_by(counterpart)
        if reference_said is None:
            return None
        said = logits.argmax(axis=1)
        reference_right, right = reference_said == self._labels, said == self._labels
        table = paired_table(reference_right, right)
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
            per_class=self._per_class(reference_right, right),
        )

    def _said_by(self, counterpart: _Look) -> NDArray[np.int64]:
        """What the other file says of the pictures; ``BadInput`` where it says nothing usable."""
        assert counterpart.manifest is not None
        name = counterpart.file.name
        try:
            answers = self._run(counterpart.file, counterpart.manifest)
        except Exception as error:
            raise BadInput(f"'{name}' cannot be compared with: {type(error).__name__}: {first_line(error)}.") from error
        fault = _no_numbers(answers.logits)
        if fault:
            raise BadInput(f"'{name}' cannot be compared with: {fault}.")
        said: NDArray[np.int64] = answers.logits.argmax(axis=1)
        return said

    def _per_class(self, reference_right: NDArray[np.bool_], right: NDArray[np.bool_]) -> tuple[Counts, ...]:
        outcome = 2 * ~reference_right + ~right  # in the order of a table: both, lost, gained, neither
        counts = np.zeros((len(self._classes), 4), np.int64)
        np.add.at(counts, (self._labels, outcome), 1)
        return tuple((int(both), int(lost), int(gained), int(neither)) for both, lost, gained, neither in counts)

    def _drift(self, logits: NDArray[np.float32], manifest: FileManifest) -> Drift | None:
        if self._simulate is None:
            return None
        if self._simulated is None:
            pictures = self._pixels[manifest.preprocess][self._drawn]
            with progress.track("its quantized graph", len(pictures)) as task:
                self._simulated = self._simulate(pictures, task.advance)
        return drift(self._simulated, logits[self._drawn], self._labels[self._drawn])


def _no_numbers(logits: NDArray[np.float32]) -> str | None:
    finite = np.isfinite(logits).all(axis=1)
    return None if finite.all() else f"NaN or infinite logits for {int((~finite).sum())} of {len(logits)} images"
