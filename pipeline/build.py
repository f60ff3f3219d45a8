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
from numpy.typing import NDArray

from calibration.adaround import OnLayer
from calibration.annotate import WEIGHTED, TensorKeys
from calibration.quantize import quantize
from calibration.ranges import Ranges
from calibration.recipe import Recipe
from calibration.simulate import Simulator
from edge_apps import __version__
from edge_apps.chatter import hushed
from edge_apps.errors import first_line
from edge_apps.files import write_whole
from edge_apps.images import ImageSet
from edge_apps.runtime.manifest import FORMAT, Bundle, BundleFile, FileManifest, Precision, Provenance, load_bundle
from edge_apps.runtime.runner import open_runner
from pipeline.accuracy.sqnr import ENOUGH_IMAGES, sqnr_db, storable
from pipeline.bundle import describe, staged, write_manifest
from pipeline.calibrating import COMPARED_IMAGES, Calibration, Pictures, calibrate, draw, repairs_path
from pipeline.captured import Captured, capture
from pipeline.checkpoint import Checkpoint, save
from pipeline.errors import BadRecipe, EdgeError, LoweringFailed, MissingExtra, NotDelegated, NotRunHere
from pipeline.interrupt import lasting_interrupts
from pipeline.networks import archive, exported, own
from pipeline.targets.base import Census, Delegation, Source, Target

TOOLS = ("torch", "torchao", "executorch", "coremltools", "litert-torch", "ai-edge-quantizer")

Announce = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """What to make of a checkpoint.

    ``calibration`` is an earlier one, to be used again. With ``require_delegated`` there is no bundle
    unless every file that has a delegate here runs whole on it.
    """

    checkpoint: Checkpoint
    files: Sequence[tuple[Target, Precision]]
    images: ImageSet
    recipe: Recipe
    out: Path
    calibration: Calibration | None = None
    require_delegated: bool = False

    def needs_ranges(self) -> bool:
        """Whether any file is int8."""
        return any(precision == "int8" for _, precision in self.files)

    def int8_recipe(self) -> Recipe:
        """What int8 files are made by: the recipe of an earlier calibration, if there is one."""
        return self.recipe if self.calibration is None else self.calibration.ranges.recipe

    def steps(self) -> int:
        """How often ``build`` announces something."""
        return 2 + len(self.files)


def build(job: Job, announce: Announce, on_layer: OnLayer = lambda _path, _number, _count: None) -> Bundle:
    """Make the bundle of a job; it appears whole, or not at all. ``on_layer`` is as ``calibrate`` has it.

    Raises:
        MissingExtra: a target's packages are not installed. LoweringFailed: an exporter refused the network, or the
        file it wrote is not what was asked for. BadCalibration: too few pictures, or ranges of another checkpoint.
        BadRecipe: int8 is asked for, and every layer is to stay in float.
    """
    check_installed(job.files)
    with lasting_interrupts() as check_interrupt:

        def step(text: str) -> None:
            check_interrupt()
            announce(text)

        step("Capturing the network")
        captured = capture(job.checkpoint, job.images.image(0))
        if job.needs_ranges():
            check_int8(captured, job.int8_recipe())
        pictures = draw(captured, job.images, job.recipe if job.calibration is None else _to_compare(job))
        step("Calibrating" if job.needs_ranges() and job.calibration is None else "Preparing")
        calibration = job.calibration
        if calibration is not None:
            calibration.ranges.check_checkpoint(job.checkpoint.sha256, job.checkpoint.preprocess, "the given ranges")
        elif job.needs_ranges():
            calibration = calibrate(captured, pictures, job.recipe, on_layer)
        material = Material.of(captured, pictures, calibration if job.needs_ranges() else None)

        with staged(job.out) as folder:
            entries = _write_evidence(folder, material)
            for target, precision in job.files:
                step(f"{target.name} {precision}")
                entries.append(_make(folder, target, precision, material))
            if job.require_delegated:
                check_delegated(entries)
            about = file_manifest(job.checkpoint, "", "fp32", None if calibration is None else calibration.ranges)
            write_manifest(folder, about, entries, {} if material.ranges is None else material.ranges.observers)
            check_interrupt()
    return load_bundle(job.out)


def _to_compare(job: Job) -> Recipe:
    """What is drawn where nothing is calibrated: pictures that files are compared on."""
    return Recipe(images=min(COMPARED_IMAGES, len(job.images)), seed=job.recipe.seed)


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


def check_int8(captured: Captured, recipe: Recipe) -> None:
    """Refuse a recipe that leaves nothing to int8: a file called so would be fp32; ``BadRecipe``."""
    if not any_in_int8(captured, recipe):
        patterns = ", ".join(f"'{pattern}'" for pattern in recipe.float_layers) or "none"
        raise BadRecipe(
            f"int8: every convolution and linear layer is to stay in float (float_layers: {patterns}), and that is "
            "fp32. Ask for --precision fp32, or name fewer layers in the recipe."
        )


def any_in_int8(captured: Captured, recipe: Recipe) -> bool:
    """Whether int8 files of this recipe compute any convolution or linear layer in integers."""
    graph = captured.graph()
    keys = TensorKeys(graph, recipe)
    return any(node.target in WEIGHTED and keys.is_quantized(node) for node in graph.graph.nodes)


@dataclass(frozen=True)
class Material:
    """What files are made of, and the logits that they are compared with, float32 ``[N, K]``.

    ``int8`` is the captured network with its repairs; the same as ``captured`` where there are none.
    """

    captured: Captured
    int8: Captured
    pictures: Pictures
    calibration: Calibration | None
    float_logits: NDArray[np.float32]
    int8_logits: NDArray[np.float32] | None

    @classmethod
    def of(cls, captured: Captured, pictures: Pictures, calibration: Calibration | None) -> Material:
        """Without a calibration there are no int8 files."""
        floating = captured.logits(captured.graph(), pictures.compared())
        if calibration is None:
            return cls(captured, captured, pictures, None, floating, None)
        int8 = calibration.applied(captured)
        with hushed():
            simulated, _ = quantize(int8.graph(), calibration.ranges, fold_weights=True)
            logits = int8.logits(Simulator(simulated), pictures.compared())
        return cls(captured, int8, pictures, calibration, floating, logits)

    @property
    def ranges(self) -> Ranges | None:
        """Where there are int8 files."""
        return None if self.calibration is None else self.calibration.ranges


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
        written("float/program.pt2", "float-program", archive.write(material.captured.program)),
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
    foreign = own.is_foreign(checkpoint.spec.name)
    path = folder / ("network.pt2" if foreign else "checkpoint.safetensors")
    if checkpoint.describes_itself and foreign == (checkpoint.path.suffix == own.PROGRAM):
        write_whole(path, checkpoint.content)
    elif foreign:
        write_whole(path, exported.save(captured.original, checkpoint))
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


def _make(folder: Path, target: Target, precision: Precision, material: Material) -> BundleFile:
    """Lower to one file, open it again, count and compare."""
    int8 = precision == "int8"
    ranges = material.ranges if int8 else None
    manifest = file_manifest(material.captured.checkpoint, target.name, precision, ranges)
    path = folder / f"{own.file_stem(manifest.model)}-{precision}{target.suffix}"
    network = (material.int8 if int8 else material.captured).network
    float_layers, census = _lower(target, Source(network, ranges), manifest, path)
    return describe(
        folder,
        path,
        "model",
        target=target.name,
        precision=precision,
        float_layers=float_layers,
        operators=dict(sorted(census.operators.items())),
        float_operators=dict(sorted(census.float_operators.items())) if int8 else {},
        delegated=_delegated(census.delegation),
        comparison=_compare(path, material, precision),
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


def _compare(path: Path, material: Material, precision: Precision) -> dict[str, Any]:
    """Run the written file through the device's own runner on the pictures of ``Pictures.compared``."""
    pictures = material.pictures.compared()
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
        "sqnr_float_db": _decibels(path, material.float_logits, logits),
    }
    if precision == "int8" and material.int8_logits is not None:
        comparison["sqnr_graph_db"] = _decibels(path, material.int8_logits, logits)
    return comparison


def _decibels(path: Path, reference: NDArray[np.float32], logits: NDArray[np.float32]) -> float:
    try:
        return storable(sqnr_db(reference, logits))
    except EdgeError as error:  # float16 overflows where float32 does not
        raise LoweringFailed(f"{path.name} and the network cannot be compared: {error}") from error
