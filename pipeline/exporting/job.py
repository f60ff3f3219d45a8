"""The main job: checkpoint → calibrate → quantize → lower to every target → judge what was written → bundle."""

from __future__ import annotations

import contextlib
import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from calibration.algorithms.algorithm import OnLayer
from calibration.dataset.dataset import CalibrationSet
from calibration.quantizer import WEIGHTED, TensorKeys
from calibration.ranges import Ranges
from calibration.recipe import Recipe
from edge_apps import __version__
from edge_apps.files import write_whole
from edge_apps.images import Image, ImageSet
from edge_apps.runtime.manifest import (
    FORMAT,
    Bundle,
    BundleFile,
    FileManifest,
    OutputKind,
    Precision,
    Provenance,
    load_bundle,
)
from pipeline.bundles.write import describe, staged, write_manifest
from pipeline.checkpoints import programs, pt2_archive, user_networks
from pipeline.checkpoints.checkpoint import Checkpoint, save
from pipeline.checkpoints.formats import is_program
from pipeline.data.classes import names_in
from pipeline.data.held_back import judged_images
from pipeline.errors import (
    BadRecipe,
    MissingExtra,
)
from pipeline.exporting.departure import first_departure
from pipeline.exporting.findings import network_findings
from pipeline.exporting.interrupt import lasting_interrupts
from pipeline.exporting.lowering import delegated, judge, lower
from pipeline.exporting.references import References
from pipeline.exporting.requirements import check_delegated, check_mismatches
from pipeline.graphs.evaluation_mode import check_int8_forms
from pipeline.graphs.outputs import output_kind
from pipeline.quantization.calibrate import Calibration, calibrate, draw, repairs_path
from pipeline.quantization.captured import Captured, capture
from pipeline.targets.base import Source, Target

TOOLS = ("torch", "torchao", "executorch", "coremltools", "litert-torch", "ai-edge-quantizer")

Announce = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """What to make of a checkpoint.

    ``images`` are None where there are none: files are then judged on noise, and none can be int8. ``calibration`` is
    an earlier one, to be used again. With ``require_delegated`` there is no bundle unless every file that has a
    delegate here runs whole on it. A file that does not compute its network stops the job, unless its name is in
    ``allow_mismatch``; without ``stop_on_mismatch`` the verdict is recorded and nothing stops.
    """

    checkpoint: Checkpoint
    files: Sequence[tuple[Target, Precision]]
    images: ImageSet | None
    recipe: Recipe
    out: Path
    calibration: Calibration | None = None
    require_delegated: bool = False
    allow_mismatch: frozenset[str] = frozenset()
    stop_on_mismatch: bool = True

    def needs_ranges(self) -> bool:
        """Whether any file is int8."""
        return any(precision == "int8" for _, precision in self.files)

    def int8_recipe(self) -> Recipe:
        """What int8 files are made by: the recipe of an earlier calibration, if there is one."""
        return self.recipe if self.calibration is None else self.calibration.ranges.recipe

    def names(self) -> list[str]:
        """The names of the files to make."""
        stem = user_networks.file_stem(self.checkpoint.spec.name)
        return [file_name(stem, target, precision) for target, precision in self.files]

    def steps(self) -> int:
        """How often ``build`` announces something."""
        return 2 + len(self.files)


def build(job: Job, announce: Announce, on_layer: OnLayer = lambda _path, _number, _count: None) -> Bundle:
    """Make the bundle of a job; it appears whole, or not at all. ``on_layer`` is as ``calibrate`` has it.

    Raises:
        MissingExtra: a target's packages are not installed. LoweringFailed: an exporter refused the network, or the
        file it wrote is not what was asked for. BadCalibration: too few pictures, or ranges of another checkpoint.
        BadRecipe: int8 is asked for, and every layer is to stay in float. Mismatch: a file does not compute its
        network.
    """
    check_installed(job.files)
    with lasting_interrupts() as check_interrupt:

        def step(text: str) -> None:
            check_interrupt()
            announce(text)

        step("Capturing the network")
        captured = capture(job.checkpoint, _example(job))
        if job.needs_ranges():
            check_int8(captured, job.int8_recipe())
        step("Calibrating" if job.needs_ranges() and job.calibration is None else "Preparing")
        calibration = _calibration(job, captured, on_layer)
        material = Material.of(job, captured, calibration if job.needs_ranges() else None)

        with staged(job.out) as folder:
            entries = _write_evidence(folder, material)
            companions = Companions(tuple(job.names()), {entry.role: entry.sha256 for entry in entries})
            for target, precision in job.files:
                step(f"{target.name} {precision}")
                entries.append(_make(folder, target, precision, material, job, companions, check_interrupt))
            if job.require_delegated:
                check_delegated(entries)
            if job.stop_on_mismatch:
                check_mismatches(entries)
            about = file_manifest(job.checkpoint, "", "fp32", material.ranges, material.output, companions)
            findings = network_findings(material.references, material.calibration, _classes(job), check_interrupt)
            observers = {} if material.ranges is None else material.ranges.observers
            write_manifest(folder, about, entries, observers, findings)
            check_interrupt()
    return load_bundle(job.out)


def _example(job: Job) -> Image:
    """An image that the network is captured with."""
    if job.images is not None:
        return job.images.image(0)
    noise: Image = judged_images(None, job.checkpoint.preprocess, job.recipe.seed, None).pixels[0]
    return noise


def _calibration(job: Job, captured: Captured, on_layer: OnLayer) -> Calibration | None:
    """The calibration that was given, or a new one where a file is int8."""
    if job.calibration is not None:
        checkpoint = job.checkpoint
        job.calibration.ranges.check_checkpoint(checkpoint.sha256, checkpoint.preprocess, "the given ranges")
        return job.calibration
    if not job.needs_ranges():
        return None
    assert job.images is not None, "int8 was planned without images"
    return calibrate(captured, draw(captured, job.images, job.recipe), job.recipe, on_layer)


def _classes(job: Job) -> tuple[str, ...]:
    """The checkpoint's labels by the names that the data has for them."""
    labels = job.checkpoint.labels
    return labels if job.images is None else names_in(job.images, labels)


def file_name(stem: str, target: Target, precision: Precision) -> str:
    """``mobilenet_v2-int8.tflite``; ``stem`` is what file names of the model begin with."""
    return f"{stem}-{precision}{target.suffix}"


@dataclass(frozen=True)
class Companions:
    """What every file of an export records of the others: the names of all models, the hashes of what proves them.

    Whoever exchanges or removes one of them in the bundle would have to edit every file.
    """

    names: tuple[str, ...]
    evidence: Mapping[str, str]

    def evidence_of(self, ranges: Ranges | None) -> dict[str, str]:
        """Return what proves a file: without ranges, nothing that came of calibration."""
        return {role: sha256 for role, sha256 in self.evidence.items() if ranges is not None or role in FLOAT_EVIDENCE}


FLOAT_EVIDENCE = ("checkpoint", "float-program")


def file_manifest(
    checkpoint: Checkpoint,
    target: str,
    precision: Precision,
    ranges: Ranges | None,
    output: OutputKind,
    companions: Companions | None = None,
) -> FileManifest:
    """Return what a file says of itself.

    ``ranges`` are those it was quantized with, ``output`` is what its answers are, ``companions`` is the rest
    of the export.
    """
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
            evidence={} if companions is None else companions.evidence_of(ranges),
            tools={"edge-pipeline": __version__, **_versions(TOOLS)},
        ),
        output=output,
        exported=() if companions is None else companions.names,
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


def check_int8(captured: Captured, recipe: Recipe) -> None:
    """Refuse what cannot be int8: a recurrent layer (``BadInput``), a recipe that leaves nothing (``BadRecipe``)."""
    check_int8_forms(captured.network)
    if not any_in_int8(captured, recipe):
        patterns = ", ".join(f"'{pattern}'" for pattern in recipe.float_layers) or "none"
        raise BadRecipe(
            f"int8: every convolution and linear layer is to stay in float (float_layers: {patterns}), and that is "
            "fp32. Ask for `precision=fp32`, or name fewer layers in the recipe."
        )


def any_in_int8(captured: Captured, recipe: Recipe) -> bool:
    """Whether int8 files of this recipe compute any convolution or linear layer in integers."""
    graph = captured.graph()
    keys = TensorKeys(graph, recipe)
    return any(node.target in WEIGHTED and keys.is_quantized(node) for node in graph.graph.nodes)


@dataclass(frozen=True)
class Material:
    """What files are made of, and the networks that they are held against.

    ``int8`` is the captured network with its repairs; the same as ``captured`` where there are none.
    """

    captured: Captured
    int8: Captured
    calibration: Calibration | None
    references: References

    @classmethod
    def of(cls, job: Job, captured: Captured, calibration: Calibration | None) -> Material:
        """Draw the images to judge on. Without a calibration there are no int8 files."""
        ranges = None if calibration is None else calibration.ranges
        used: CalibrationSet | None = None if ranges is None else ranges.calibration_set
        int8 = captured if calibration is None else calibration.applied(captured)
        judged = judged_images(job.images, job.checkpoint.preprocess, job.recipe.seed, used)
        return cls(captured, int8, calibration, References(captured, int8, ranges, judged))

    @property
    def ranges(self) -> Ranges | None:
        """Where there are int8 files."""
        return None if self.calibration is None else self.calibration.ranges

    @property
    def output(self) -> OutputKind:
        """What the network answers: logits, or probabilities of its own."""
        return output_kind(self.captured.original, self.references.float32)


def _write_evidence(folder: Path, material: Material) -> list[BundleFile]:
    """The float reference; and where there are int8 files the calibration set, ranges, recipe and repairs."""
    import tomli_w

    def written(name: str, role: str, data: bytes) -> BundleFile:
        (folder / name).parent.mkdir(exist_ok=True)
        write_whole(folder / name, data)
        return describe(folder, folder / name, role)

    (folder / "float").mkdir()
    ranges = material.ranges
    checkpoint = _write_checkpoint(folder / "float", material.captured)
    entries = [
        describe(folder, checkpoint, "checkpoint"),
        written("float/program.pt2", "float-program", pt2_archive.write(material.captured.program)),
    ]
    if ranges is not None:
        used = msgspec.json.format(msgspec.json.encode(ranges.calibration_set), indent=1)
        entries.append(written("calibration-set.json", "calibration-set", used))
        entries.append(written("ranges.json", "ranges", ranges.to_json()))
        entries.append(written("recipe.toml", "recipe", tomli_w.dumps(msgspec.to_builtins(ranges.recipe)).encode()))
    if ranges is not None and ranges.repairs_sha256 is not None:
        assert material.calibration is not None
        name = repairs_path(Path("ranges.json")).name  # so that --ranges finds them
        entries.append(written(name, "repairs", material.calibration.repairs.to_bytes()))
    return entries


def _write_checkpoint(folder: Path, captured: Captured) -> Path:
    """The user's file byte for byte, or a state dict of others as a file that says what it is.

    A network that the zoo cannot build again goes as its exported program, as captured before anything was rewritten.
    """
    checkpoint = captured.checkpoint
    foreign = user_networks.is_foreign(checkpoint.spec.name)
    path = folder / ("network.pt2" if foreign else "checkpoint.safetensors")
    if checkpoint.describes_itself and foreign == is_program(checkpoint.content):
        write_whole(path, checkpoint.content)
    elif foreign:
        write_whole(path, programs.save(captured.original, checkpoint))
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
    material: Material,
    job: Job,
    companions: Companions,
    step: Callable[[], None],
) -> BundleFile:
    """Lower to one file, open it again, count its operators and judge it."""
    int8 = precision == "int8"
    ranges = material.ranges if int8 else None
    checkpoint, output = material.captured.checkpoint, material.output
    manifest = file_manifest(checkpoint, target.name, precision, ranges, output, companions)
    path = folder / file_name(user_networks.file_stem(manifest.model), target, precision)
    network = (material.int8 if int8 else material.captured).network
    float_layers, census, content = lower(target, Source(network, ranges), manifest, path)
    comparison = judge(content, precision, material.references)
    if comparison.status == "run" and comparison.word == "bad":
        allowed = path.name in job.allow_mismatch
        departure = None if allowed else first_departure(target, manifest, material.references, step)
        departs_at = None if departure is None else str(departure)
        comparison = msgspec.structs.replace(comparison, allowed=allowed, departs_at=departs_at)
    return describe(
        folder,
        path,
        "model",
        target=target.name,
        precision=precision,
        float_layers=float_layers,
        float_operators=material.references.float_operators if int8 else (),
        operators=dict(sorted(census.operators.items())),
        delegated=delegated(census.delegation),
        comparison=comparison,
    )
