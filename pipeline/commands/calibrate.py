"""``pipeline calibrate``: find ranges once, to be used by many exports."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_apps.console import Line, echo_json, print_parts, results
from edge_apps.progress import note, track
from pipeline.commands.options.calibration import RecipeOptions, calibration_options
from pipeline.commands.options.checkpoint import CheckpointOptions, checkpoint_options, named_checkpoint
from pipeline.commands.options.common import needs_export_extra, taken
from pipeline.commands.options.data import DATA_HELP, calibration_images
from pipeline.commands.options.model import ModelCommand

if TYPE_CHECKING:
    from edge_apps.images import ImageSet
    from pipeline.checkpoints.checkpoint import Checkpoint


@dataclass(frozen=True)
class CalibrateOptions:
    """What ``pipeline calibrate`` does with a calibration, beside the checkpoint and the recipe."""

    data: str
    out: Path | None
    skip_corrupt: bool
    force: bool
    test: str | None
    count: int | None
    seeds: int | None
    plot: Path | None
    as_json: bool


@dataclass(frozen=True)
class Asked:
    """All that was asked for."""

    checkpoint: str | None
    described: CheckpointOptions
    recipe: RecipeOptions
    options: CalibrateOptions


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
    asked = Asked(checkpoint, CheckpointOptions.of(given), taken(RecipeOptions, given), taken(CalibrateOptions, given))
    _check_options(compare, curve, asked)
    if compare:
        _compare(asked)
    elif curve:
        _curve(asked)
    else:
        _calibrate(asked)


MEASUREMENT = {"test": "--test", "count": "--images", "as_json": "--json"}
CURVE = {"seeds": "--seeds", "plot": "--plot"}
FILE = {"out": "--out", "force": "--force"}


def _check_options(compare: bool, curve: bool, asked: Asked) -> None:
    """Refuse what would be ignored."""
    from pipeline.errors import BadInput

    if compare and curve:
        raise BadInput("--compare and --curve are two measurements: give one of them.")
    if not (compare or curve) and asked.options.out is None:
        raise click.UsageError("Missing option '--out'.", click.get_current_context())
    for belongs, options, need in (
        (compare or curve, MEASUREMENT, "--compare and --curve"),
        (curve, CURVE, "--curve"),
        (not (compare or curve), FILE, "calibrations that are written; --compare and --curve write none"),
    ):
        idle = [flag for name, flag in options.items() if getattr(asked.options, name)]
        if idle and not belongs:
            raise BadInput(f"{', '.join(idle)}: only for {need}. Leave it out.")
    if compare and asked.recipe.observer is not None:
        raise BadInput("--compare runs every observer: leave --observer out.")


def _calibrate(asked: Asked) -> None:
    from edge_apps.files import check_writable
    from pipeline.errors import BadInput
    from pipeline.exporting.interrupt import lasting_interrupts
    from pipeline.quantization.calibrate import calibrate, draw, effects, remarks, repairs_path, save_calibration
    from pipeline.quantization.captured import capture

    out = asked.options.out
    assert out is not None, "_check_options has seen to it"
    if out.suffix != ".json":
        raise BadInput(f"--out is '{out}'; a ranges file's name ends in .json.")
    recipe = asked.recipe.recipe()
    for written in (out, repairs_path(out)) if recipe.repairs else (out,):
        if written.exists() and not asked.options.force:
            raise BadInput(f"'{written}' exists. Pass --force to replace it, or choose another --out.")
    check_writable(out)
    loaded, images = _opened(asked)
    if loaded.path.resolve() in (out.resolve(), repairs_path(out).resolve()):
        raise BadInput(f"--out '{out}' would replace the checkpoint '{loaded.path}': choose another name.")
    with track("Calibrating"), lasting_interrupts() as check_interrupt:
        captured = capture(loaded, images.image(0))
        calibration = calibrate(captured, draw(captured, images, recipe), recipe)
        check_interrupt()
    save_calibration(out, calibration)
    ranges = calibration.ranges
    for line in remarks(ranges.calibration_set):
        note(line)
    counts = ranges.calibration_set.class_counts()
    results().print(
        f"{len(ranges.values)} ranges by {recipe.observer} from {ranges.recipe.images} images "
        f"({min(counts.values())} to {max(counts.values())} of each of {len(counts)} classes): {out}",
        markup=False,
        soft_wrap=True,
    )
    print_parts(map(Line, effects(ranges)))


def _compare(asked: Asked) -> None:
    from pipeline.exporting.interrupt import lasting_interrupts
    from pipeline.quantization.compare_observers import compare_observers
    from pipeline.quantization.compare_observers_show import show_observers

    recipe = asked.recipe.recipe()
    loaded, images = _opened(asked)
    test = _test_images(asked)
    with lasting_interrupts() as check_interrupt:
        compared = compare_observers(loaded, images, recipe, test, asked.options.count)
        check_interrupt()
    if asked.options.as_json:
        echo_json(compared.to_json())
    else:
        print_parts(show_observers(compared))


def _curve(asked: Asked) -> None:
    from edge_apps.plots import check_plot
    from pipeline.exporting.interrupt import lasting_interrupts
    from pipeline.quantization.calibration_curve import calibration_curve
    from pipeline.quantization.calibration_curve_show import plot_curve, show_curve

    plot: Path | None = asked.options.plot
    if plot is not None:
        check_plot(plot, "export")
    recipe = asked.recipe.recipe()
    loaded, images = _opened(asked)
    test = _test_images(asked)
    with lasting_interrupts() as check_interrupt:
        curve = calibration_curve(
            loaded,
            images,
            recipe,
            test=test,
            count=asked.options.count,
            seeds=asked.options.seeds or 3,
            largest=asked.recipe.calibration_size,
        )
        check_interrupt()
    if plot is not None:
        plot_curve(curve, plot)
        note(f"Plot: {plot}")
    if asked.options.as_json:
        echo_json(curve.to_json())
    else:
        print_parts(show_curve(curve))


def _opened(asked: Asked) -> tuple[Checkpoint, ImageSet]:
    """The checkpoint and the pictures to calibrate on; those left out are listed."""
    loaded = named_checkpoint(asked.checkpoint, asked.described)()
    images, skipped = calibration_images(asked.options.data, loaded, asked.options.skip_corrupt)
    for name in skipped:
        note(f"Left out, corrupt: {name}")
    return loaded, images


def _test_images(asked: Asked) -> ImageSet | None:
    from pipeline.data import open_data
    from pipeline.data.reading import usable

    if asked.options.test is None:
        return None
    images = open_data(asked.options.test, "test")
    if asked.options.skip_corrupt:
        images, skipped = usable(images, True)
        for name in skipped:
            note(f"Left out, corrupt: {name}")
    return images
