"""``pipeline benchmark``: what networks cost as files, measured side by side on this machine."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_apps.console import echo_json, print_parts
from edge_apps.files import write_whole
from edge_apps.progress import track
from pipeline.commands.options.common import command_line, needs_export_extra
from pipeline.commands.options.data import DATA_HELP
from pipeline.commands.options.model import ModelCommand, given_options, model_options

if TYPE_CHECKING:
    from edge_apps.images import ImageSet
    from pipeline.benchmarking.measurement import Measurement


@click.command(
    "benchmark", cls=ModelCommand, short_help="Measure size, delegation and latency of files on this machine."
)
@click.argument("what", nargs=-1)
@click.option("--all", "whole_zoo", is_flag=True, help="Every model of the zoo.")
@click.option("--input", "input_size", type=click.IntRange(1), help="Input side of models. [default: each model's own]")
@click.option(
    "--data", default="digits", show_default=True, help=f"Pictures that models are calibrated on: {DATA_HELP}"
)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option("--seconds", type=click.FloatRange(0, min_open=True), default=3.0, show_default=True, help="Per file.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="A folder for one JSON per model of the zoo; what is in it is not measured again.",
)
@click.option("--markdown", type=click.Path(path_type=Path), help="Write the table to this file, too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--part", is_flag=True, hidden=True)  # of a benchmark in another process, which described the data
@model_options()
@click.pass_context
def command(
    ctx: click.Context,
    /,
    what: tuple[str, ...],
    whole_zoo: bool,
    input_size: int | None,
    data: str,
    threads: int,
    seconds: float,
    out: Path | None,
    markdown: Path | None,
    as_json: bool,
    part: bool,
    **hyperparameters: Any,
) -> None:
    """Measure WHAT: bundles, or models of the zoo by name.

    A model is exported untrained, with batch-norm statistics of the pictures, to every target in fp32 and int8; its
    files then take turns on one core. Sizes, nearness to the network, delegation and latency come from the files.
    Accuracy does not: that needs training and 'pipeline evaluate'.
    """
    from edge_apps.json_text import indented
    from pipeline import zoo
    from pipeline.benchmarking.measurement import load_measurement, to_document
    from pipeline.benchmarking.show import markdown as as_markdown
    from pipeline.benchmarking.show import show
    from pipeline.data import open_data
    from pipeline.errors import BadInput

    wanted = list(dict.fromkeys([*what, *(zoo.specs() if whole_zoo else ())]))
    if not wanted:
        raise BadInput("Nothing to measure: name a bundle or a model of the zoo, or give --all.")
    needs_export_extra(torchao=True)
    options = given_options(hyperparameters)
    for name in wanted:
        _check(name, options, input_size)
    images = None if all(map(_is_bundle, wanted)) else open_data(data, "calibration", say=not part)
    measured: list[Measurement] = []
    with track("", len(wanted)) as task:
        for number, name in enumerate(wanted):
            task.at(number, len(wanted), name)
            kept = None if out is None or _is_bundle(name) else out / f"{name}.json"
            if kept is not None and kept.exists():
                measured.append(load_measurement(kept))
                _check_same(measured[-1], kept, name, options, input_size, data, threads)
            elif len(wanted) == 1 or _is_bundle(name):
                measured.append(_measure(name, options, input_size, data, images, threads, seconds))
            else:
                measured.append(_apart(ctx, name))
            if kept is not None and not kept.exists():
                kept.parent.mkdir(parents=True, exist_ok=True)
                write_whole(kept, indented(to_document(measured[-1])))
    if markdown is not None:
        write_whole(markdown, as_markdown(measured, command_line(ctx)).encode())
    if as_json:
        echo_json(indented([to_document(one) for one in measured]))
    else:
        print_parts(show(measured))


def _check(name: str, options: dict[str, Any], input_size: int | None) -> None:
    """Refuse before hours of work what would fail in the middle of them."""
    from edge_apps.runtime.manifest import MANIFEST
    from pipeline import zoo
    from pipeline.errors import BadInput

    if _is_bundle(name):
        if options or input_size is not None:
            raise BadInput(f"'{name}' is a bundle, which has its options and its input: leave them out.")
        return
    if not zoo.knows(name) and (":" in name or "/" in name or Path(name).exists()):
        raise BadInput(
            f"'{name}' is neither a bundle (a folder with {MANIFEST}) nor a model of the zoo. A network of your own is "
            "measured as the bundle that 'pipeline export' makes of it."
        )
    spec = zoo.get(name)
    spec.check_input(spec.input_size if input_size is None else input_size, spec.with_defaults(options))


def _is_bundle(name: str) -> bool:
    """A folder that merely bears a model's name is none."""
    from edge_apps.runtime.manifest import MANIFEST

    return (Path(name) / MANIFEST).is_file()


def _check_same(
    kept: Measurement,
    path: Path,
    name: str,
    options: dict[str, Any],
    input_size: int | None,
    data: str,
    threads: int,
) -> None:
    """Refuse to show an earlier measurement of something else, or from somewhere else."""
    from edge_apps import __version__
    from edge_apps.runtime.device import this_device
    from pipeline import zoo
    from pipeline.errors import BadInput

    spec = zoo.get(name)
    asked = (spec.name, spec.with_defaults(options), input_size or spec.input_size, data, threads)
    had = spec.with_defaults(kept.options) if kept.model == spec.name else kept.options  # less what came since then
    if asked != (kept.model, had, kept.input, kept.data, kept.threads):
        raise BadInput(f"'{path}' was measured with other options, input, data or threads: choose another --out.")
    if kept.device.fingerprint != this_device().fingerprint or kept.version != __version__:
        raise BadInput(
            f"'{path}' was measured by version {kept.version} on {kept.device}; this is {__version__} on "
            f"{this_device()}. Times of one table are of one device and version: choose another --out."
        )


def _measure(
    name: str,
    options: dict[str, Any],
    input_size: int | None,
    data: str,
    images: ImageSet | None,
    threads: int,
    seconds: float,
) -> Measurement:
    """Measure a bundle, or a model of the zoo that is calibrated on ``images``, which ``data`` names."""
    from edge_apps.runtime.manifest import load_bundle
    from pipeline import zoo
    from pipeline.benchmarking.measurement import measure_bundle
    from pipeline.benchmarking.untrained import untrained_bundle

    began = time.monotonic()
    if images is None or _is_bundle(name):
        return measure_bundle(load_bundle(Path(name)), threads=threads, seconds=seconds, began=began)
    spec = zoo.get(name)
    chosen = spec.with_defaults(options)
    side = spec.input_size if input_size is None else input_size
    with untrained_bundle(spec, chosen, side, images) as bundle:
        return measure_bundle(bundle, threads=threads, seconds=seconds, data=data, began=began)


def _apart(ctx: click.Context, name: str) -> Measurement:
    """In a process of its own: what the exporters of one model leave in memory ends with it."""
    from edge_apps.untrusted import parse_json
    from pipeline.benchmarking.measurement import of_document
    from pipeline.errors import BadInput, EdgeError

    given = command_line(ctx, {"what", "whole_zoo", "out", "markdown", "as_json"})
    words = [*shlex.split(given)[1:], "--json", "--part", name]
    run = [sys.executable, "-c", "from pipeline.cli import main; main()", *words]
    ended = subprocess.run(run, stdout=subprocess.PIPE, check=False)
    if ended.returncode:
        kind = BadInput if ended.returncode == BadInput.exit_status else EdgeError
        raise kind(f"The benchmark of '{name}' ended with status {ended.returncode}; the lines above say why.")
    return of_document(parse_json(ended.stdout, list[dict[str, Any]])[0])
