"""``pipeline calibrate``: find ranges once, to be used by many exports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge_apps.console import progress, progress_bar, results
from pipeline.model_options import ModelCommand, given_options
from pipeline.options import (
    DATA_HELP,
    calibration_images,
    calibration_options,
    checkpoint_options,
    choose_recipe,
    given_preprocessing,
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
    model: str | None,
    labels: Path | None,
    data: str,
    out: Path,
    recipe_file: Path | None,
    observer: str | None,
    calibration_size: int | None,
    seed: int | None,
    skip_corrupt: bool,
    force: bool,
    **described: Any,
) -> None:
    """Run calibration images through CHECKPOINT's network and record the range of every tensor.

    'pipeline export --ranges FILE' uses them again, and refuses them for another checkpoint.
    """
    needs_export_extra(torchao=True)
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

    from edge_apps.files import check_writable, write_whole
    from pipeline.build import calibrate, capture
    from pipeline.errors import BadInput
    from pipeline.interrupt import lasting_interrupts

    if out.suffix != ".json":
        raise BadInput(f"--out is '{out}'; a ranges file's name ends in .json.")
    if out.exists() and not force:
        raise BadInput(f"'{out}' exists. Pass --force to replace it, or choose another --out.")
    check_writable(out)
    open_checkpoint = named_checkpoint(
        checkpoint,
        model,
        given_options(described),
        given_preprocessing(described),
        labels,
        described["weights"],
    )
    recipe = choose_recipe(recipe_file, observer, calibration_size, seed)
    loaded = open_checkpoint()
    images, skipped = calibration_images(data, loaded, skip_corrupt)
    console = progress()
    for name in skipped:
        console.print(f"Left out, corrupt: {name}", markup=False, soft_wrap=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with progress_bar(*columns, transient=True) as bar, lasting_interrupts() as check_interrupt:
        bar.add_task(f"Calibrating on {recipe.images} images", total=None)
        ranges = calibrate(capture(loaded, images, recipe), recipe)
        check_interrupt()
    write_whole(out, ranges.to_json())
    counts = ranges.calibration_set.class_counts()
    results().print(
        f"{len(ranges.values)} ranges by {recipe.observer} from {recipe.images} images "
        f"({min(counts.values())} to {max(counts.values())} of each of {len(counts)} classes): {out}",
        markup=False,
        soft_wrap=True,
    )
