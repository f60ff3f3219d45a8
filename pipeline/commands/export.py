"""``pipeline export``: a checkpoint to a bundle of device files."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_apps.console import echo_json, progress, progress_bar, results, table, typed
from pipeline.commands.options.checkpoint import (
    DATA_HELP,
    calibration_images,
    calibration_options,
    checkpoint_options,
    choose_recipe,
    named_checkpoint,
    needs_export_extra,
    recipe_options,
)
from pipeline.commands.options.model import ModelCommand

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from edge_apps.images import ImageSet
    from edge_apps.runtime.manifest import Bundle, FileComparison
    from pipeline.exporting.job import Job
    from pipeline.precision_search.job import Outcome, SearchJob


@click.command("export", cls=ModelCommand, short_help="Quantize a checkpoint and write device files as a bundle.")
@checkpoint_options
@click.option(
    "--target", "target_texts", multiple=True, help="executorch, coreml, tflite or all; repeat or use commas."
)
@click.option(
    "--precision", "precision_texts", multiple=True, help="fp32, fp16, int8, int8-weights. [default: fp32,int8]"
)
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
    from pipeline.exporting.job import Job, check_installed
    from pipeline.gating.judge import GatePolicy
    from pipeline.precision_search.job import RANK_IMAGES, SearchJob, check_files
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
    open_checkpoint = named_checkpoint(checkpoint, given)
    needs_images = any(precision == "int8" for _, precision in files)
    if checkpoint is not None and data is None and needs_images:
        raise BadInput(
            "Missing --data: int8 files are calibrated on images of the checkpoint's classes. Without images export "
            "--precision fp32."
        )
    recipe, chosen = choose_recipe(given), {*recipe_options(given), *(["recipe"] if given["recipe_file"] else [])}
    if (ranges_file or chosen - {"images", "choice", "seed"}) and not needs_images:
        raise BadInput(
            "--ranges, --recipe, --observer, --scales and --repair are for int8 files, and none is asked for: leave "
            "them out."
        )
    idle = [flag for key, flag in (("images", "--calibration-size"), ("choice", "--choice")) if key in chosen]
    if idle and not needs_images:
        notes.append(f"{' and '.join(idle)}: no file is int8, so nothing is calibrated.")
    calibration = None if ranges_file is None else load_calibration(ranges_file)
    if calibration is not None:
        if chosen:
            raise BadInput(
                "--ranges come with their own recipe: leave --recipe, --observer, --scales, --repair, "
                "--calibration-size, --choice and --seed out."
            )
        recipe = calibration.ranges.recipe
    if out is not None:
        check_free(out, force)
    elif given["weights"] is not None and checkpoint is not None:
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
    job = Job(loaded, files, images, recipe, place, calibration, require_delegated, frozenset(allow_mismatch))
    unknown = job.allow_mismatch - {*job.names()}
    if unknown:
        raise BadInput(f"--allow-mismatch '{min(unknown)}' is none of the files to write: {', '.join(job.names())}.")
    notes += [f"Left out, corrupt: {name}" for name in skipped]
    if policy is None or judge is None:
        bundle = run_with_progress(job, notes)
    else:
        judging, skipped = usable(open_data(judge, "test"), skip_corrupt)
        notes += [f"Left out of --judge, corrupt: {name}" for name in skipped]
        ranking = None
        if rank is not None:
            ranking, skipped = usable(open_data(rank, "calibration"), skip_corrupt)
            notes += [f"Left out of --rank, corrupt: {name}" for name in skipped]
        outcome = search_with_progress(SearchJob(job, policy, judging, ranking, rank_images or RANK_IMAGES), notes)
        if outcome.bundle is None:
            echo_json(outcome.gate.to_json()) if as_json else show_rejected(outcome, results())
            return outcome.gate.exit_status
        bundle = outcome.bundle
    if as_json:
        echo_json((bundle.root / MANIFEST).read_text("utf-8"))
        return 0
    show(bundle)
    if bundle.manifest.search:
        show_search(bundle.manifest.search, results())
    return 0


def _default_place(model: str) -> Path:
    from pipeline.checkpoints.user_networks import file_stem

    return Path(f"{file_stem(model)}-bundle")


def run_with_progress(job: Job, notes: list[str]) -> Bundle:
    """Build with a progress bar on stderr."""
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from pipeline.bundles.cross_references import calibration_set_of
    from pipeline.exporting.job import build
    from pipeline.quantization.calibrate import remarks

    console = progress()
    _say(notes)
    columns = (TextColumn("{task.description:<24}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with progress_bar(*columns) as bar:
        task = bar.add_task("Starting", total=job.steps())
        started = 0

        def announce(step: str) -> None:
            nonlocal started
            bar.update(task, description=step, completed=started)
            if not console.is_terminal:
                console.print(f"[{started + 1}/{job.steps()}] {step}", markup=False)
            started += 1

        def on_layer(_path: str, number: int, count: int) -> None:
            bar.update(task, description=f"Rounding layer {number}/{count}")

        bundle = build(job, announce, on_layer)
        bar.update(task, description="Done", completed=job.steps())
    drawn = calibration_set_of(bundle) if job.needs_ranges() and job.calibration is None else None
    if drawn is not None and job.images is not None:
        console.print(f"Calibrated on {len(drawn.images)} of {len(job.images)} images.", highlight=False)
        for line in remarks(drawn):
            console.print(line, markup=False, soft_wrap=True)
    return bundle


def search_with_progress(asked: SearchJob, notes: list[str]) -> Outcome:
    """Search and build; a line on stderr for every step, and a bar with time left while pictures go through."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    from pipeline.precision_search.job import search

    console = progress()
    _say(notes)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with progress_bar(*columns, transient=True) as bars:

        def announce(step: str) -> None:
            console.print(step, markup=False, soft_wrap=True)

        def phase(title: str, total: int) -> Callable[[int], None]:
            announce(title)
            for done in bars.task_ids:
                bars.remove_task(done)
            task = bars.add_task(title, total=total)
            return lambda pictures: bars.advance(task, pictures)

        return search(asked, announce, phase)


def _say(notes: list[str]) -> None:
    for note in notes:
        progress().print(f"Note: {note}", markup=False, soft_wrap=True)


def show(bundle: Bundle) -> None:
    """A table of the files, what repairs did, and what to type next."""
    from rich.markup import escape

    from pipeline.bundles.reopen import rebuild
    from pipeline.quantization.calibrate import effects

    shown = table()
    shown.add_column("\nfile", overflow="fold")
    shown.add_column("\nMB", justify="right", no_wrap=True)
    shown.add_column("\nverdict", no_wrap=True)
    for column in ("vs float\ndB", "agree-\nment %", "vs own\ngraph dB", "mult-adds\ndelegated", "in\nparts"):
        shown.add_column(column, justify="right", no_wrap=True)
    for file in bundle.models():
        compared, delegated = file.comparison, file.delegated
        shown.add_row(
            escape(file.path),
            f"{file.bytes / 1e6:.2f}",
            _verdict(compared),
            "–" if compared.collapsed else _decibels(compared.sqnr_float_db),
            _percent(compared.agreement_float),
            "–" if compared.collapsed else _decibels(compared.sqnr_graph_db),
            f"{delegated['share']:.1%}" if delegated else "–",
            str(delegated["partitions"]) if delegated else "–",
        )
    console = results()
    console.print(f"Bundle {bundle.root}", markup=False, soft_wrap=True)  # as a title it would wrap with the table
    console.print(shown)
    rebuilt = rebuild(bundle)
    for line in (*_remarks(bundle), *(effects(rebuilt.ranges) if rebuilt else ())):
        console.print(line, markup=False, soft_wrap=True)
    place = shlex.quote(str(bundle.root))
    console.print(f"Next: {typed('pipeline')} evaluate {place} --data …", markup=False, soft_wrap=True)


_STYLES = {"good": "green", "check": "yellow", "bad": "red"}


def _verdict(compared: FileComparison) -> str:
    if compared.word is None:
        return "[dim]not run[/]" if compared.status == "not run" else "–"
    return f"[{_STYLES[compared.word]}]{compared.word}[/]"


def _remarks(bundle: Bundle) -> Iterator[str]:
    """What the table does not say: on which images files were judged, by what, and why one is not good."""
    from pipeline.graphs.outputs import EXPLANATIONS

    files = bundle.models()
    run = [file.comparison for file in files if file.comparison.status == "run"]
    if run:
        by = ", ".join(dict.fromkeys(str(compared.runtime) for compared in run))
        few = "" if run[0].enough_images else " So few images make the figures indicative."
        yield f"Judged on {run[0].images} {JUDGED_ON[run[0].judged_on]}, by {by}.{few}"
    if bundle.manifest.output != "logits":
        yield EXPLANATIONS[bundle.manifest.output]
    yield from bundle.manifest.findings
    yield from dict.fromkeys(file.comparison.reason for file in files if file.comparison.status == "not run")
    for file in files:
        for finding in file.comparison.findings:
            kept = " Kept because of --allow-mismatch." if file.comparison.allowed else ""
            yield f"{file.path} {finding}.{kept}"
        if file.float_operators:
            yield f"{file.path}: in float: {_some(file.float_operators)}"
        if file.delegated and file.delegated["left_out"]:
            left = ", ".join(f"{name} ×{count}" for name, count in file.delegated["left_out"].items())
            yield f"{file.path}: outside the delegate: {left}"


JUDGED_ON = {
    "held-out": "images that calibrated nothing",
    "calibration": "of the calibration images (the data has too few to hold any back)",
    "noise": "images of noise (no --data was given)",
    None: "images",
}


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:MOST_NAMES])
    return shown if len(names) <= MOST_NAMES else f"{shown} and {len(names) - MOST_NAMES} more"


MOST_NAMES = 8


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f}"


def _decibels(value: float | None) -> str:
    from pipeline.metrics.sqnr import EQUAL_DB

    return "–" if value is None else "equal" if value >= EQUAL_DB else f"{value:.1f}"
