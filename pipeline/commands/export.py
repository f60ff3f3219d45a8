"""``pipeline export``: a checkpoint to a bundle of device files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_apps.console import echo_json, print_parts, results, typed
from edge_apps.progress import note
from edge_apps.runtime.precisions import PRECISIONS
from pipeline.commands.options.calibration import RecipeOptions, calibration_options
from pipeline.commands.options.checkpoint import CheckpointOptions, checkpoint_options, named_checkpoint
from pipeline.commands.options.common import needs_export_extra, taken
from pipeline.commands.options.data import DATA_HELP, calibration_images
from pipeline.commands.options.model import ModelCommand

if TYPE_CHECKING:
    from edge_apps.images import ImageSet
    from edge_apps.runtime.manifest import Bundle
    from pipeline.exporting.job import ExportJob


@click.command("export", cls=ModelCommand, short_help="Quantize a checkpoint and write device files as a bundle.")
@checkpoint_options
@click.option(
    "--target", "target_texts", multiple=True, help="executorch, coreml, tflite or all; repeat or use commas."
)
@click.option("--precision", "precision_texts", multiple=True, help=f"{', '.join(PRECISIONS)}. [default: fp32,int8]")
@click.option("--data", help=f"Calibration images: {DATA_HELP}")
@click.option("--out", type=click.Path(path_type=Path), help="The bundle to write. [default: <model>-bundle]")
@calibration_options
@click.option(
    "--ranges", "ranges_file", type=click.Path(path_type=Path), help="Ranges that 'pipeline calibrate' wrote."
)
@click.option(
    "--require-delegated", is_flag=True, help="Fail unless every .pte and .tflite runs whole on XNNPACK, in one piece."
)
@click.option(
    "--search",
    "searches",
    is_flag=True,
    help="Keep as few layers in float as make the files pass a gate with --max-drop; see docs/sensitivity.md.",
)
@click.option("--max-drop", type=float, help="With --search: most top-1 that may be lost, in points.")
@click.option("--judge", help=f"With --search: pictures that were used for nothing else, to judge on: {DATA_HELP}")
@click.option("--rank", help="With --search: pictures to search on. [default: those of --data that calibrate nothing]")
@click.option("--rank-images", type=click.IntRange(2), help="With --search: how many of them at most. [default: 2000]")
@click.option(
    "--allow-mismatch",
    multiple=True,
    metavar="FILE",
    help="Keep this file (by its name in the bundle) even if it does not compute its network; repeat for others.",
)
@click.option("--force", is_flag=True, help="Replace an existing bundle.")
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON.")
def command(
    checkpoint: str | None,
    target_texts: tuple[str, ...],
    precision_texts: tuple[str, ...],
    data: str | None,
    out: Path | None,
    skip_corrupt: bool,
    ranges_file: Path | None,
    require_delegated: bool,
    searches: bool,
    max_drop: float | None,
    judge: str | None,
    rank: str | None,
    rank_images: int | None,
    allow_mismatch: tuple[str, ...],
    force: bool,
    as_json: bool,
    **given: Any,
) -> int:
    """Calibrate CHECKPOINT once and lower it to every target.

    Without CHECKPOINT the built-in one (MobileNetV2 on handwritten digits) and its data are used. Each file is
    opened again, its operators are counted, and it is judged on images that calibrated nothing: against the float
    network, and an int8 file against its own quantized graph. A file that does not compute its network stops the
    export (exit status 1), and no bundle is written. fp32 and fp16 files need no --data.

    With --search a bundle is written only if its files pass the gate on the pictures of --judge, which are looked at
    once. Exit status 3 or 4: they did not.
    """
    from pipeline import targets, zoo

    files, notes = targets.plan(targets.choose_targets(target_texts or ("all",)), precision_texts)
    needs_export_extra(torchao=True)

    from edge_apps.runtime.manifest import MANIFEST
    from pipeline.bundles.write import check_free
    from pipeline.data import open_data
    from pipeline.data.reading import usable
    from pipeline.errors import BadInput
    from pipeline.exporting.job import ExportJob, check_installed
    from pipeline.exporting.show import show_bundle
    from pipeline.gating.judge import GatePolicy
    from pipeline.precision_search.job import RANK_IMAGES, SearchJob, check_files, search
    from pipeline.precision_search.show import show_rejected, show_search
    from pipeline.quantization.calibrate import load_calibration

    check_installed(files)
    if not searches and any(value is not None for value in (max_drop, judge, rank, rank_images)):
        raise BadInput("--max-drop, --judge, --rank and --rank-images are for --search: add it, or leave them out.")
    if searches and (max_drop is None or judge is None):
        raise BadInput("--search needs --max-drop, in points of top-1, and --judge, pictures used for nothing else.")
    policy = None if max_drop is None else GatePolicy(max_drop=max_drop)
    if searches:
        check_files(files)
    if require_delegated:
        unseen = [target.name for target in dict.fromkeys(target for target, _ in files) if target.delegate is None]
        if all(target.name in unseen for target, _ in files):
            raise BadInput(
                f"--require-delegated: what {', '.join(unseen)} runs on is decided on the device: leave it out."
            )
        notes += [f"{name}: what runs on which unit is decided on the device; not checked." for name in unseen]
    described, asked = CheckpointOptions.of(given), taken(RecipeOptions, given)
    open_checkpoint = named_checkpoint(checkpoint, described)
    needs_images = any(precision == "int8" for _, precision in files)
    if checkpoint is not None and data is None and needs_images:
        raise BadInput(
            "Missing --data: int8 files are calibrated on images of the checkpoint's classes. Without images export "
            "--precision fp32."
        )
    recipe, chosen = asked.recipe(), {*asked.overrides(), *(["recipe"] if asked.recipe_file else [])}
    if (ranges_file or chosen - {"images", "choice", "seed"}) and not needs_images:
        raise BadInput(
            "--ranges, --recipe, --observer, --scales and --repair are for int8 files, and none is asked for: leave "
            "them out."
        )
    idle = [flag for key, flag in (("images", "--calibration-size"), ("choice", "--choice")) if key in chosen]
    if idle and not needs_images:
        notes.append(f"{' and '.join(idle)}: no file is int8, so nothing is calibrated.")
    calibration = None if ranges_file is None else load_calibration(ranges_file)
    if calibration is not None and chosen:
        raise BadInput(
            "--ranges come with their own recipe: leave --recipe, --observer, --scales, --repair, "
            "--calibration-size, --choice and --seed out."
        )
    if out is not None:
        check_free(out, force)
    elif described.weights is not None and checkpoint is not None:
        check_free(_default_place(zoo.get(checkpoint).name), force)  # before the download
    loaded = open_checkpoint()
    if calibration is not None:
        calibration.ranges.check_checkpoint(loaded.sha256, loaded.preprocess, str(ranges_file))
    place = out or _default_place(loaded.spec.name)
    check_free(place, force)
    images: ImageSet | None = None
    skipped: list[str] = []
    if data is not None or checkpoint is None:
        images, skipped = calibration_images("digits" if data is None else data, loaded, skip_corrupt)
    job = ExportJob(loaded, files, images, calibration or recipe, place, require_delegated, frozenset(allow_mismatch))
    unknown = job.allow_mismatch - {*job.names()}
    if unknown:
        raise BadInput(f"--allow-mismatch '{min(unknown)}' is none of the files to write: {', '.join(job.names())}.")
    notes += [f"Left out, corrupt: {name}" for name in skipped]
    if policy is None or judge is None:
        bundle = export_bundle(job, notes)
    else:
        judging, skipped = usable(open_data(judge, "test"), skip_corrupt)
        notes += [f"Left out of --judge, corrupt: {name}" for name in skipped]
        ranking = None
        if rank is not None:
            ranking, skipped = usable(open_data(rank, "calibration"), skip_corrupt)
            notes += [f"Left out of --rank, corrupt: {name}" for name in skipped]
        for text in notes:
            note(f"Note: {text}")
        outcome = search(SearchJob(job, policy, judging, ranking, rank_images or RANK_IMAGES))
        if outcome.bundle is None:
            echo_json(outcome.gate.to_json()) if as_json else print_parts(show_rejected(outcome, results().width))
            return outcome.gate.exit_status
        bundle = outcome.bundle
    if as_json:
        echo_json((bundle.root / MANIFEST).read_text("utf-8"))
        return 0
    print_parts(show_bundle(bundle, typed("pipeline")))
    if bundle.manifest.search is not None:
        print_parts(show_search(bundle.manifest.search))
    return 0


def _default_place(model: str) -> Path:
    from pipeline.checkpoints.user_networks import file_stem

    return Path(f"{file_stem(model)}-bundle")


def export_bundle(job: ExportJob, notes: list[str]) -> Bundle:
    """Make a bundle, and say on how many images it was calibrated."""
    from pipeline.bundles.cross_references import calibration_set_of
    from pipeline.exporting.write import build
    from pipeline.quantization.calibrate import remarks

    for text in notes:
        note(f"Note: {text}")
    bundle = build(job)
    drawn = calibration_set_of(bundle) if job.needs_ranges() and job.calibration is None else None
    if drawn is not None and job.images is not None:
        note(f"Calibrated on {len(drawn.images)} of {len(job.images)} images.")
        for line in remarks(drawn):
            note(line)
    return bundle
