"""``pipeline calibrate``: find ranges once, to be used by many exports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge_apps.console import progress, progress_bar, results
from pipeline.model_options import ModelCommand
from pipeline.options import (
    DATA_HELP,
    calibration_images,
    calibration_options,
    checkpoint_options,
    choose_recipe,
    named_checkpoint,
    needs_export_extra,
)


@click.command("calibrate", cls=ModelCommand, short_help="Find activation ranges and write them to a file.")
@checkpoint_options
@click.option("--data", required=True, help=f"Calibration images: {DATA_HELP}")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The ranges file to write (.json).")
@calibration_options
@click.option("--force", is_flag=True, help="Replace an existing file.")
def command(
    checkpoint: str | None,
    data: str,
    out: Path,
    skip_corrupt: bool,
    force: bool,
    **given: Any,
) -> None:
    """Run calibration images through CHECKPOINT's network and record the range of every tensor.

    'pipeline export --ranges FILE' uses them again, and refuses them for another checkpoint.
    """
    needs_export_extra(torchao=True)
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

    from edge_apps.files import check_writable
    from pipeline.calibrating import calibrate, draw, repairs_path, save_calibration
    from pipeline.captured import capture
    from pipeline.errors import BadInput
    from pipeline.interrupt import lasting_interrupts

    if out.suffix != ".json":
        raise BadInput(f"--out is '{out}'; a ranges file's name ends in .json.")
    recipe = choose_recipe(given)
    for written in (out, repairs_path(out)) if recipe.repairs else (out,):
        if written.exists() and not force:
            raise BadInput(f"'{written}' exists. Pass --force to replace it, or choose another --out.")
    check_writable(out)
    open_checkpoint = named_checkpoint(checkpoint, given)
    loaded = open_checkpoint()
    images, skipped = calibration_images(data, loaded, skip_corrupt)
    console = progress()
    for name in skipped:
        console.print(f"Left out, corrupt: {name}", markup=False, soft_wrap=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with progress_bar(*columns, transient=True) as bar, lasting_interrupts() as check_interrupt:
        bar.add_task(f"Calibrating on {recipe.images} images", total=None)
        captured = capture(loaded, images.image(0))
        calibration = calibrate(captured, draw(captured, images, recipe), recipe)
        check_interrupt()
    save_calibration(out, calibration)
    ranges = calibration.ranges
    counts = ranges.calibration_set.class_counts()
    results().print(
        f"{len(ranges.values)} ranges by {recipe.observer} from {recipe.images} images "
        f"({min(counts.values())} to {max(counts.values())} of each of {len(counts)} classes): {out}",
        markup=False,
        soft_wrap=True,
    )
