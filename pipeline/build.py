"""The main job: checkpoint → calibrate → quantize → lower to every target → look at what was written → bundle."""

from __future__ import annotations

import contextlib
import importlib.metadata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from calibration.dataset import CalibrationSet, choose
from calibration.quantize import find_ranges, quantize
from calibration.ranges import Ranges
from calibration.recipe import Recipe
from calibration.simulate import Simulator
from edge_apps import __version__
from edge_apps.chatter import hushed
from edge_apps.errors import first_line
from edge_apps.files import write_whole
from edge_apps.images import ImageSet
from edge_apps.runtime.manifest import FORMAT, Bundle, BundleFile, FileManifest, Precision, Provenance, load_bundle
from edge_apps.runtime.preprocess import to_batch
from edge_apps.runtime.runner import open_runner
from pipeline.accuracy.sqnr import ENOUGH_IMAGES, EQUAL_DB, sqnr_db
from pipeline.bundle import describe, staged, write_manifest
from pipeline.capture import ImageInput, capture_images, graph_of, input_range
from pipeline.checkpoint import Checkpoint, save
from pipeline.errors import BadImage, EdgeError, LoweringFailed, MissingExtra, NotDelegated, NotRunHere
from pipeline.interrupt import lasting_interrupts
from pipeline.networks import archive, exported, own
from pipeline.networks.prepare import Prepared, prepare
from pipeline.targets.base import Census, Delegation, Source, Target

COMPARED_IMAGES = 64
"""A file is compared on this many of the calibration images."""

TOOLS = ("torch", "torchao", "executorch", "coremltools", "litert-torch", "ai-edge-quantizer")

Announce = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """What to make of a checkpoint.

    ``ranges`` are those of an earlier calibration, to be used again. With ``require_delegated`` there is no bundle
    unless every file that has a delegate here runs whole on it.
    """

    checkpoint: Checkpoint
    files: Sequence[tuple[Target, Precision]]
    images: ImageSet
    recipe: Recipe
    out: Path
    ranges: Ranges | None = None
    require_delegated: bool = False

    def needs_ranges(self) -> bool:
        """Whether any file is int8."""
        return any(precision == "int8" for _, precision in self.files)

    def steps(self) -> int:
        """How often ``build`` announces something."""
        return 2 + len(self.files)


@dataclass(frozen=True)
class Captured:
    """The network as everything below sees it, and the pictures that it is looked at with."""

    checkpoint: Checkpoint
    prepared: Prepared
    program: torch.export.ExportedProgram
    calibration_set: CalibrationSet
    pictures: NDArray[np.uint8]  # [N, H, W, 3]

    def batches(self, size: int, first: int | None = None) -> list[torch.Tensor]:
        """The (first) pictures as float32 ``[n, 3, H, W]``, 0…255; one by one where the network takes no more."""
        pixels = torch.from_numpy(self.pictures[:first]).permute(0, 3, 1, 2).float()
        return list(torch.split(pixels, self.prepared.network.batch or size))

    def logits_of(self, graph: Any) -> NDArray[np.float32]:
        """What a graph over float images answers for the pictures that files are compared on."""
        with torch.no_grad():
            answers = [graph(batch) for batch in self.batches(16, COMPARED_IMAGES)]
        return np.concatenate([answer.numpy() for answer in answers])


def build(job: Job, announce: Announce) -> Bundle:
    """Make the bundle of a job; it appears whole, or not at all.

    Raises:
        MissingExtra: a target's packages are not installed. LoweringFailed: an exporter refused the network, or the
        file it wrote is not what was asked for. BadCalibration: too few pictures, or ranges of another checkpoint.
    """
    check_installed(job.files)
    with lasting_interrupts() as check_interrupt:

        def step(text: str) -> None:
            check_interrupt()
            announce(text)

        step("Capturing the network")
        captured = capture(job.checkpoint, job.images, job.recipe)
        step("Calibrating" if job.needs_ranges() and job.ranges is None else "Preparing")
        ranges = job.ranges
        if ranges is not None:
            ranges.check_checkpoint(job.checkpoint.sha256, job.checkpoint.preprocess, "the given ranges")
        elif job.needs_ranges():
            ranges = calibrate(captured, job.recipe)
        references = _References(captured, ranges if job.needs_ranges() else None)

        with staged(job.out) as folder:
            entries = _write_evidence(folder, captured, ranges)
            for target, precision in job.files:
                step(f"{target.name} {precision}")
                entries.append(_make(folder, target, precision, captured, ranges, references))
            if job.require_delegated:
                check_delegated(entries)
            about = file_manifest(job.checkpoint, "", "fp32", ranges)
            write_manifest(folder, about, entries)
            check_interrupt()
    return load_bundle(job.out)


def capture(checkpoint: Checkpoint, images: ImageSet, recipe: Recipe) -> Captured:
    """Draw the calibration set and capture the network in the form that devices get."""
    calibration_set, indices = choose(images, recipe.images, recipe.seed)
    try:
        pictures = to_batch([images.image(i) for i in indices], checkpoint.preprocess)
    except BadImage as error:
        raise BadImage(f"{error} Or leave such pictures out with --skip-corrupt.") from error
    normalised = ImageInput(torch.nn.Identity(), checkpoint.preprocess)
    example = normalised(torch.from_numpy(pictures[:1]).permute(0, 3, 1, 2).float())
    prepared = prepare(checkpoint.network(), checkpoint.preprocess, example)
    with hushed():
        front = ImageInput(prepared.network, checkpoint.preprocess).eval()
        program = capture_images(front, checkpoint.preprocess, prepared.network.batch)
    return Captured(checkpoint, prepared, program, calibration_set, pictures)


def calibrate(captured: Captured, recipe: Recipe) -> Ranges:
    """One calibration pass: every scale that any target will use."""
    with hushed():
        values = find_ranges(
            graph_of(captured.program),
            captured.batches(recipe.batch),
            recipe,
            input_range(captured.checkpoint.preprocess),
        )
    return Ranges(
        preprocess=captured.checkpoint.preprocess,
        checkpoint_sha256=captured.checkpoint.sha256,
        recipe=recipe,
        calibration_set=captured.calibration_set,
        values=values,
    )


def file_manifest(checkpoint: Checkpoint, target: str, precision: Precision, ranges: Ranges | None) -> FileManifest:
    """What a file says of itself; ``ranges`` are those it was quantized with."""
    return FileManifest(
        format=FORMAT,
        model=checkpoint.spec.name,
        options=dict(checkpoint.options),
        target=target,
        precision=precision,
        labels=checkpoint.labels,
        preprocess=checkpoint.preprocess,
        provenance=Provenance(
            checkpoint_sha256=checkpoint.sha256,
            ranges_sha256=None if ranges is None else ranges.sha256(),
            tools={"edge-pipeline": __version__, **_versions(TOOLS)},
        ),
    )


def _versions(packages: Sequence[str]) -> dict[str, str]:
    """Of those that are installed: one target can be exported without the others' packages."""
    found = {}
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def check_installed(files: Sequence[tuple[Target, Precision]]) -> None:
    """Refuse before work starts what would fail after minutes."""
    for target in dict.fromkeys(target for target, _ in files):
        missing = target.missing()
        if missing:
            raise MissingExtra(f"Target '{target.name}' cannot be exported: {missing}.")


class _References:
    """What files are compared with: the float network's logits and, for int8, those of the quantized graph."""

    def __init__(self, captured: Captured, ranges: Ranges | None) -> None:
        graph = graph_of(captured.program)
        self.float_logits = captured.logits_of(graph)
        self.int8_logits: NDArray[np.float32] | None = None
        if ranges is not None:
            with hushed():
                simulated, _ = quantize(graph, ranges, fold_weights=True)
                self.int8_logits = captured.logits_of(Simulator(simulated))


def _write_evidence(folder: Path, captured: Captured, ranges: Ranges | None) -> list[BundleFile]:
    """The float reference, the calibration set, the ranges and the recipe."""
    import tomli_w

    def written(name: str, role: str, data: bytes) -> BundleFile:
        write_whole(folder / name, data)
        return describe(folder, folder / name, role)

    (folder / "float").mkdir()
    checkpoint = _write_checkpoint(folder / "float", captured)
    write_whole(folder / "float" / "program.pt2", archive.write(captured.program))
    used = captured.calibration_set if ranges is None else ranges.calibration_set
    entries = [
        describe(folder, checkpoint, "checkpoint"),
        describe(folder, folder / "float" / "program.pt2", "float-program"),
        written("calibration-set.json", "calibration-set", msgspec.json.format(msgspec.json.encode(used), indent=1)),
    ]
    if ranges is not None:
        entries.append(written("ranges.json", "ranges", ranges.to_json()))
        entries.append(written("recipe.toml", "recipe", tomli_w.dumps(msgspec.to_builtins(ranges.recipe)).encode()))
    return entries


def _write_checkpoint(folder: Path, captured: Captured) -> Path:
    """The user's file byte for byte, or a state dict of others as a file that says what it is.

    A network that the zoo cannot build again goes as its exported program, as captured before anything was rewritten.
    """
    checkpoint = captured.checkpoint
    foreign = own.is_foreign(checkpoint.spec.name)
    path = folder / ("network.pt2" if foreign else "checkpoint.safetensors")
    if checkpoint.describes_itself and foreign == (checkpoint.path.suffix == own.PROGRAM):
        write_whole(path, checkpoint.content)
    elif foreign:
        write_whole(path, exported.save(captured.prepared.original, checkpoint))
    else:
        save(
            path,
            checkpoint.network(),
            spec=checkpoint.spec,
            options=checkpoint.options,
            labels=checkpoint.labels,
            preprocess=checkpoint.preprocess,
            training=checkpoint.training,
            made_from=checkpoint.sha256,
        )
    return path


def _make(
    folder: Path,
    target: Target,
    precision: Precision,
    captured: Captured,
    ranges: Ranges | None,
    references: _References,
) -> BundleFile:
    """Lower to one file, open it again, count and compare."""
    manifest = file_manifest(captured.checkpoint, target.name, precision, ranges if precision == "int8" else None)
    path = folder / f"{own.file_stem(manifest.model)}-{precision}{target.suffix}"
    float_layers, census = _lower(target, Source(captured.prepared.network, ranges), manifest, path)
    return describe(
        folder,
        path,
        "model",
        target=target.name,
        precision=precision,
        float_layers=float_layers,
        operators=dict(sorted(census.operators.items())),
        delegated=_delegated(census.delegation),
        comparison=_compare(path, captured, references, precision),
    )


def _delegated(delegation: Delegation | None) -> dict[str, Any]:
    """For the manifest; empty where the format has no delegate on this machine."""
    if delegation is None:
        return {}
    return {
        "partitions": delegation.partitions,
        "share": delegation.share,
        "outside": dict(delegation.outside),
        "left_out": dict(delegation.left_out),
    }


def check_delegated(files: Sequence[BundleFile]) -> None:
    """``NotDelegated`` naming the operators that stayed outside, where a file does not run whole on its delegate."""
    shortfalls = []
    for file in files:
        found = file.delegated
        if not found or (found["partitions"] == 1 and not found["left_out"]):
            continue
        left = ", ".join(f"{name} ×{count}" for name, count in sorted(found["left_out"].items())) or "no operator"
        pieces = "1 piece" if found["partitions"] == 1 else f"{found['partitions']} pieces"
        shortfalls.append(f"{file.path} ({pieces}, {found['share']:.1%} of mult-adds; outside: {left})")
    if shortfalls:
        raise NotDelegated(f"Not whole on the delegate: {'; '.join(shortfalls)}. No bundle was written.")


def _lower(target: Target, source: Source, manifest: FileManifest, path: Path) -> tuple[tuple[str, ...], Census]:
    what = f"{target.name} {manifest.precision}"
    try:
        with hushed():
            float_layers = target.lower(source, manifest, path)
            census = target.census(path)
    except EdgeError:
        raise
    except Exception as error:
        reason = first_line(error)
        raise LoweringFailed(
            f"{what}: the exporter failed with {type(error).__name__}: {reason}. Run with --debug for the traceback."
        ) from error
    if manifest.precision == "int8" and census.float_layers != len(float_layers):
        raise LoweringFailed(
            f"{what}: {census.float_layers} convolution and linear layers compute in float in the written file, "
            f"{len(float_layers)} were meant to: it is not an int8 file."
        )
    return float_layers, census


def _compare(path: Path, captured: Captured, references: _References, precision: Precision) -> dict[str, Any]:
    """Run the written file through the device's own runner on the calibration pictures."""
    pictures = captured.pictures[:COMPARED_IMAGES]
    try:
        runner = open_runner(path)
    except (NotRunHere, MissingExtra) as reason:
        return {"status": "not run", "reason": str(reason)}
    try:
        logits = runner.run(pictures)
    finally:
        runner.close()
    comparison: dict[str, Any] = {
        "status": "run",
        "runtime": runner.runtime,
        "images": len(pictures),
        "enough_images": len(pictures) >= ENOUGH_IMAGES,
        "sqnr_float_db": _decibels(path, references.float_logits, logits),
    }
    if precision == "int8" and references.int8_logits is not None:
        comparison["sqnr_graph_db"] = _decibels(path, references.int8_logits, logits)
    return comparison


def _decibels(path: Path, reference: NDArray[np.float32], logits: NDArray[np.float32]) -> float:
    """JSON knows no infinity."""
    try:
        decibels = sqnr_db(reference, logits)
    except EdgeError as error:  # float16 overflows where float32 does not
        raise LoweringFailed(f"{path.name} and the network cannot be compared: {error}") from error
    return round(max(-EQUAL_DB, min(decibels, EQUAL_DB)), 2)
