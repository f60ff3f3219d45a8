"""``pipeline sensitivity``: which layers of a bundle lose the accuracy."""

from __future__ import annotations

from pathlib import Path

import click

from edge_apps.console import echo_json, print_parts
from edge_apps.progress import note, track
from pipeline.commands.options.common import needs_export_extra
from pipeline.commands.options.data import DATA_HELP


@click.command("sensitivity", short_help="Find the layers of a bundle that int8 damages most.")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--data", required=True, help=f"Pictures to look at, best others than you judge on: {DATA_HELP}")
@click.option("--images", "count", type=click.IntRange(1), help="How many of them. [default: 512, or all]")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the draw of pictures.")
@click.option("--plot", type=click.Path(path_type=Path), help="Also draw it, to this .svg or .png file.")
@click.option("--skip-corrupt", is_flag=True, help="Leave corrupt pictures out and list them, instead of stopping.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def command(
    bundle: Path, data: str, count: int | None, seed: int, plot: Path | None, skip_corrupt: bool, as_json: bool
) -> None:
    """Compute the network of a BUNDLE with each of its operators alone in int8, and see what becomes of the logits.

    With an int8 .tflite in the bundle, the tensors inside the file are compared with the float network's too. The
    pictures are drawn class by class, without those that calibrated the bundle.
    """
    needs_export_extra(torchao=True)
    from edge_apps.files import check_writable
    from edge_apps.plots import check_plot
    from pipeline.data import open_data
    from pipeline.data.classes import coverage
    from pipeline.data.held_out import held_out
    from pipeline.data.reading import usable
    from pipeline.errors import BadInput
    from pipeline.exporting.interrupt import lasting_interrupts
    from pipeline.sensitivity.measure import IMAGES, measure, open_int8
    from pipeline.sensitivity.plot import draw
    from pipeline.sensitivity.show import show_sensitivity

    if plot is not None:
        check_plot(plot, "export")
        check_writable(plot)
    opened = open_int8(bundle)
    images = open_data(data, "calibration")
    if skip_corrupt:
        images, skipped = usable(images, True)
        for name in skipped:
            note(f"Left out, corrupt: {name}")
    for line in coverage(images, opened.bundle.manifest.labels):
        note(line)
    drawn = held_out(images, count or IMAGES, seed, opened.ranges.calibration_set)
    if count is not None and len(drawn) < count:
        raise BadInput(f"'{data}' has {len(drawn)} different pictures that calibrated nothing; --images is {count}.")
    with track("Operators one by one", len(drawn)) as task, lasting_interrupts() as check_interrupt:

        def advance(pictures: int) -> None:
            task.advance(pictures)
            check_interrupt()

        result = measure(opened, drawn, seed, advance)
    if plot is not None:
        draw(result, plot)
        note(f"Plot: {plot}")
    if as_json:
        echo_json(result.to_json())
    else:
        print_parts(show_sensitivity(result))
