"""``pipeline demo``: the main job on built-in data."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_apps.console import print_parts, progress, results, table, typed
from pipeline.commands.options.common import needs_export_extra

if TYPE_CHECKING:
    from edge_apps.runtime.manifest import Bundle
    from pipeline.commands.steps.demo import CameraRun, Place
    from pipeline.gating.judge import GateResult


@click.command("demo", short_help="Do the main job on built-in data; start here.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("edge-demo"),
    show_default=True,
    help="Where to write. A demo that is there already is replaced; its latency log goes on.",
)
def command(out: Path) -> int:
    """Calibrate, export, evaluate, gate and run the camera program, on a built-in network and built-in pictures.

    Takes one to two minutes on two cores. Exit status 0 unless something failed; 3 if the gate failed.
    """
    needs_export_extra(torchao=True)
    started = time.monotonic()

    from pipeline.bundles.write import check_free
    from pipeline.commands.export import export_bundle
    from pipeline.commands.steps.demo import (
        Place,
        check_frames,
        evaluate_and_gate,
        export_job,
        run_camera,
        write_frames,
    )
    from pipeline.exporting.job import check_installed
    from pipeline.gating.show import show_gate

    place = Place(out)
    say = progress()
    job = export_job(place)
    check_installed(job.files)
    check_free(place.bundle, force=True)
    check_frames(place)

    say.print("1/4 Export: MobileNetV2, trained on handwritten digits, to six device files")
    bundle = export_bundle(job, [])
    say.print("2/4 Evaluate every file that this machine can run, on 450 held-out pictures")
    evaluation, verdict = evaluate_and_gate(place)
    say.print("3/4 Write the held-out pictures as camera frames")
    frames = write_frames(place)
    say.print(f"4/4 Run the camera program on {frames} frames through each file, one thread")
    runs = run_camera(place, bundle, evaluation)

    _show_summary(bundle, verdict, runs)
    print_parts(show_gate(verdict, results().width))
    _show_next(place, time.monotonic() - started)
    return 3 if verdict.verdict == "failed" else 0


def _show_summary(bundle: Bundle, verdict: GateResult, runs: dict[str, CameraRun]) -> None:
    from pipeline.metrics.numbers import percent

    measured = {file.path: file for file in verdict.evaluation.files}
    shown = table("What flies")
    shown.add_column("\nfile", no_wrap=True)
    for header in (
        "\nMB",
        "vs float\ndB, verdict",
        "top-1\n%",
        "camera:\nright",
        "infer\np50 ms",
        "end-to-end\np50 ms",
    ):
        shown.add_column(header, justify="right")
    for file in bundle.models():
        camera = runs.get(file.path)
        compared = file.comparison
        shown.add_row(
            file.path,
            f"{file.bytes / 1e6:.2f}",
            "not run" if compared.sqnr_float_db is None else f"{compared.sqnr_float_db:.1f}, {compared.word}",
            percent(measured[file.path].top1),
            "not run" if camera is None else f"{camera.right} of {camera.frames}",
            "–" if camera is None else f"{camera.stages['infer'].p50:.2f}",
            "–" if camera is None else f"{camera.stages['age'].p50:.2f}",
        )
    results().print(shown)
    results().print()


def _show_next(place: Place, seconds: float) -> None:
    say, pipeline, camera = results(), typed("pipeline"), typed("edge-camera")
    say.print()
    say.print(f"Done in {seconds:.0f} s. Everything is in {place.root}. Next:", markup=False)
    for text in (
        f"{pipeline} evaluate {place.bundle} --data digits",
        f"{pipeline} gate {place.bundle} --data digits --max-drop 3 --allow-not-run coreml",
        f"{camera} run --model {place.bundle} --source folder:{place.frames}",
        f"{camera} log summary {place.log}",
        f"{pipeline} train mobilenet_v2 --data YOUR_FOLDER --epochs 30 --input 96 --out mine.safetensors",
        f"{pipeline} export mine.safetensors --data YOUR_FOLDER --out mine",
    ):
        say.print(f"  {text}", markup=False, soft_wrap=True)
