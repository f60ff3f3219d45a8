"""``pipeline calibrate``: find ranges once, to be used by many exports."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_apps.console import echo_json, print_parts, results
from edge_apps.progress import note, track
from pipeline.commands.options.checkpoint import (
    DATA_HELP,
    calibration_images,
    calibration_options,
    checkpoint_options,
    choose_recipe,
    named_checkpoint,
    needs_export_extra,
)
from pipeline.commands.options.model import ModelCommand

if TYPE_CHECKING:
    from edge_apps.images import ImageSet
    from pipeline.checkpoints.checkpoint import Checkpoint


@click.command("calibrate", cls=ModelCommand, short_help="Find activation ranges and write them to a file.")
@checkpoint_options
@click.option("--data", required=True, help=f"Calibration images: {DATA_HELP}")
@click.option("--out", type=click.Path(path_type=Path), help="The ranges file to write (.json).")
@calibration_options
@click.option("--force", is_flag=True, help="Replace an existing file.")
@click.option(
    "--compare", is_flag=True, help="Write no ranges: run all observers on the same images, and judge what they give."
)
@click.option(
    "--curve",
    is_flag=True,
    help="Write no ranges: calibrate on 8, 16, … images, up to 1,024 or --calibration-size, and judge what they give.",
)
@click.option(
    "--test",
    help="With --compare, --curve: pictures to judge on, as --data. [default: some of --data that calibrate nothing]",
)
@click.option(
    "--images", "count", type=click.IntRange(1), help="With --compare, --curve: judge on so many. [default: 1000]"
)
@click.option("--seeds", type=click.IntRange(1), help="With --curve: draws of each size. [default: 3]")
@click.option("--plot", type=click.Path(path_type=Path), help="With --curve: also draw it, to this .svg or .png file.")
@click.option("--json", "as_json", is_flag=True, help="With --compare, --curve: one JSON document on stdout.")
def command(checkpoint: str | None, compare: bool, curve: bool, **given: Any) -> None:
    """Run calibration images through CHECKPOINT's network and record the range of every tensor.

    'pipeline export --ranges FILE' uses them again, and refuses them for another checkpoint. With --compare or --curve
    the int8 network of each calibration is simulated as its files compute it, and judged against the float network on
    pictures that calibrated nothing.
    """
    needs_export_extra(torchao=True)
    _check_options(compare, curve, given)
    if compare:
        _compare(checkpoint, given)
    elif curve:
        _curve(checkpoint, given)
    else:
        _calibrate(checkpoint, given)


MEASUREMENT = {"test": "--test", "count": "--images", "as_json": "--json"}
CURVE = {"seeds": "--seeds", "plot": "--plot"}
FILE = {"out": "--out", "force": "--force"}


def _check_options(compare: bool, curve: bool, given: Mapping[str, Any]) -> None:
    """Refuse what would be ignored."""
    from pipeline.errors import BadInput

    if compare and curve:
        raise BadInput("--compare and --curve are two measurements: give one of them.")
    if not (compare or curve) and given["out"] is None:
        raise click.UsageError("Missing option '--out'.", click.get_current_context())
    for belongs, options, need in (
        (compare or curve, MEASUREMENT, "--compare and --curve"),
        (curve, CURVE, "--curve"),
        (not (compare or curve), FILE, "calibrations that are written; --compare and --curve write none"),
    ):
        idle = [flag for name, flag in options.items() if given[name]]
        if idle and not belongs:
            raise BadInput(f"{', '.join(idle)}: only for {need}. Leave it out.")
    if compare and given["observer"] is not None:
        raise BadInput("--compare runs every observer: leave --observer out.")


def _calibrate(checkpoint: str | None, given: Mapping[str, Any]) -> None:
    from edge_apps.files import check_writable
    from pipeline.errors import BadInput
    from pipeline.exporting.interrupt import lasting_interrupts
    from pipeline.quantization.calibrate import calibrate, draw, effects, remarks, repairs_path, save_calibration
    from pipeline.quantization.captured import capture

    out: Path = given["out"]
    if out.suffix != ".json":
        raise BadInput(f"--out is '{out}'; a ranges file's name ends in .json.")
    recipe = choose_recipe(given)
    for written in (out, repairs_path(out)) if recipe.repairs else (out,):
        if written.exists() and not given["force"]:
            raise BadInput(f"'{written}' exists. Pass --force to replace it, or choose another --out.")
    check_writable(out)
    loaded, images = _opened(checkpoint, given)
    if loaded.path.resolve() in (out.resolve(), repairs_path(out).resolve()):
        raise BadInput(f"--out '{out}' would replace the checkpoint '{loaded.path}': choose another name.")
    with track(f"Calibrating on {recipe.images} images") as task, lasting_interrupts() as check_interrupt:

        def on_layer(_path: str, number: int, count: int) -> None:
            task.at(number, count, f"Rounding layer {number} of {count}")

        captured = capture(loaded, images.image(0))
        calibration = calibrate(captured, draw(captured, images, recipe), recipe, on_layer)
        check_interrupt()
    save_calibration(out, calibration)
    ranges = calibration.ranges
    for line in remarks(ranges.calibration_set):
        note(line)
    counts = ranges.calibration_set.class_counts()
    results().print(
        f"{len(ranges.values)} ranges by {recipe.observer} from {recipe.images} images "
        f"({min(counts.values())} to {max(counts.values())} of each of {len(counts)} classes): {out}",
        markup=False,
        soft_wrap=True,
    )
    for line in effects(ranges):
        results().print(line, markup=False, soft_wrap=True)


def _compare(checkpoint: str | None, given: Mapping[str, Any]) -> None:
    from pipeline.exporting.interrupt import lasting_interrupts
    from pipeline.quantization.compare_observers import compare_observers
    from pipeline.quantization.compare_observers_show import show_observers

    recipe = choose_recipe(given)
    loaded, images = _opened(checkpoint, given)
    test = _test_images(given)
    with lasting_interrupts() as check_interrupt:
        compared = compare_observers(loaded, images, recipe, test, given["count"])
        check_interrupt()
    if given["as_json"]:
        echo_json(compared.to_json())
    else:
        print_parts(show_observers(compared))


def _curve(checkpoint: str | None, given: Mapping[str, Any]) -> None:
    from pipeline.exporting.interrupt import lasting_interrupts
    from pipeline.metrics.plots import check_plot
    from pipeline.quantization.calibration_curve import calibration_curve
    from pipeline.quantization.calibration_curve_show import plot_curve, show_curve

    plot: Path | None = given["plot"]
    if plot is not None:
        check_plot(plot)
    recipe = choose_recipe(given)
    loaded, images = _opened(checkpoint, given)
    test = _test_images(given)
    with lasting_interrupts() as check_interrupt:
        curve = calibration_curve(
            loaded,
            images,
            recipe,
            test=test,
            count=given["count"],
            seeds=given["seeds"] or 3,
            largest=given["calibration_size"],
        )
        check_interrupt()
    if plot is not None:
        plot_curve(curve, plot)
        note(f"Plot: {plot}")
    if given["as_json"]:
        echo_json(curve.to_json())
    else:
        print_parts(show_curve(curve))


def _opened(checkpoint: str | None, given: Mapping[str, Any]) -> tuple[Checkpoint, ImageSet]:
    """The checkpoint and the pictures to calibrate on; those left out are listed."""
    loaded = named_checkpoint(checkpoint, given)()
    images, skipped = calibration_images(given["data"], loaded, given["skip_corrupt"])
    for name in skipped:
        note(f"Left out, corrupt: {name}")
    return loaded, images


def _test_images(given: Mapping[str, Any]) -> ImageSet | None:
    from pipeline.data import open_data
    from pipeline.data.reading import usable

    if given["test"] is None:
        return None
    images = open_data(given["test"], "test")
    if given["skip_corrupt"]:
        images, skipped = usable(images, True)
        for name in skipped:
            note(f"Left out, corrupt: {name}")
    return images
