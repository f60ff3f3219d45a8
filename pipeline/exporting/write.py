"""Second half of an export: lower to every target, judge what was written, and put the bundle in its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from edge_apps import progress
from edge_apps.files import write_whole
from edge_apps.json_text import indented
from edge_apps.runtime.manifest import Bundle, BundleFile, load_bundle
from edge_apps.runtime.precisions import Precision
from pipeline.bundles.write import describe, staged, write_manifest
from pipeline.checkpoints import programs, pt2_archive, user_networks
from pipeline.checkpoints.checkpoint import save
from pipeline.checkpoints.formats import is_program
from pipeline.data.classes import names_in
from pipeline.exporting.departure import first_departure
from pipeline.exporting.file_manifest import Companions, file_manifest
from pipeline.exporting.findings import network_findings
from pipeline.exporting.interrupt import lasting_interrupts
from pipeline.exporting.job import ExportJob, file_name
from pipeline.exporting.lowering import delegated, judge, lower
from pipeline.exporting.prepare import Material, prepare
from pipeline.exporting.requirements import check_delegated, check_mismatches
from pipeline.quantization.calibrate import repairs_path
from pipeline.quantization.captured import Captured
from pipeline.targets.base import Source, Target


def build(job: ExportJob) -> Bundle:
    """Make the bundle of a job; it appears whole, or not at all.

    Raises:
        What ``prepare`` and ``write`` raise.
    """
    with progress.steps(job.steps()):
        return write(prepare(job))


def write(material: Material) -> Bundle:
    """Write the bundle of a job; it appears whole, or not at all.

    Raises:
        LoweringFailed: an exporter refused the network, or the file it wrote is not what was asked for. NotDelegated: a
            file that had to run whole on its delegate does not. Mismatch: a file does not compute its network.
    """
    job = material.job
    with lasting_interrupts() as check_interrupt, staged(job.out) as folder:
        entries = _write_evidence(folder, material)
        companions = Companions(tuple(job.names()), {entry.role: entry.sha256 for entry in entries})
        for target, precision in job.files:
            check_interrupt()
            progress.step(f"{target.name} {precision}")
            entries.append(_write_file(folder, target, precision, material, companions, check_interrupt))
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


def _classes(job: ExportJob) -> tuple[str, ...]:
    """The checkpoint's labels by the names that the data has for them."""
    labels = job.checkpoint.labels
    return labels if job.images is None else names_in(job.images, labels)


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
        used = indented(ranges.calibration_set)
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


def _write_file(
    folder: Path,
    target: Target,
    precision: Precision,
    material: Material,
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
        allowed = path.name in material.job.allow_mismatch
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
