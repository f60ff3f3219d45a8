"""``edge-camera log``: parse, call, print. What a command needs is imported when it runs."""

from __future__ import annotations

from pathlib import Path

import click

from edge_apps.console import echo_json, print_parts, results
from edge_apps.json_text import indented

A_PATH = click.Path(path_type=Path)

TABLES = ("frame", "window", "event", "sample", "session")


@click.group()
def log() -> None:
    """Read latency logs."""


@log.command()
@click.argument("file", type=A_PATH)
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def summary(file: Path, as_json: bool) -> None:
    """Show throughput and latency per device, model file and runtime: n, p50, p90, p95, p99 and max of every stage.

    Frames of runs that agree in device, file, runtime, threads, source and its settings, governor and power mode are
    pooled; percentiles are of single frames.
    Where rows of frames were dropped, the histograms of their windows take their place, and it says so.
    """
    import msgspec

    from edge_apps.camera.inference.stage_names import stages_as_json
    from edge_apps.camera.log.show import group_parts
    from edge_apps.camera.log.summary import summarize_log

    groups = summarize_log(file)
    if as_json:
        _print_json([{**msgspec.to_builtins(g), "stages": stages_as_json(g.stages)} for g in groups])
        return
    for group in groups:
        print_parts(group_parts(group))


@log.command()
@click.argument("files", type=A_PATH, nargs=-1, required=True, metavar="FILES...")
@click.option("--plot", type=A_PATH, help="Draw it, too: a file ending in .svg or .png.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def compare(files: tuple[Path, ...], plot: Path | None, as_json: bool) -> None:
    """Put devices and models side by side, the fastest network first.

    End-to-end latency is how old a frame is when its labels are there; waiting for the camera's next frame is in no
    figure.

    Devices are told apart by their id and shown under their newest name.

    Runs are pooled as by 'summary', those of different logs, too; a run that was merged or copied counts once.
    """
    from edge_apps.camera.log.compare import as_json as in_json
    from edge_apps.camera.log.compare import compare_logs
    from edge_apps.camera.log.show import compared_parts

    if plot:
        from edge_apps.camera.log.plot import check_plot, write_plot

        check_plot(plot)
    compared = compare_logs(files)
    if as_json:
        _print_json(in_json(compared))
    else:
        print_parts(compared_parts(compared))
    if plot:
        write_plot(plot, compared)


@log.command()
@click.argument("file", type=A_PATH)
@click.option("--csv", "csv_out", type=A_PATH, metavar="OUT", help="Names in the first line; - is stdout.")
@click.option("--jsonl", "jsonl_out", type=A_PATH, metavar="OUT", help="One JSON object per line; - is stdout.")
@click.option("--parquet", "parquet_out", type=A_PATH, metavar="OUT", help="Apache Parquet; needs pyarrow.")
@click.option("--table", type=click.Choice(TABLES), default="frame", show_default=True, help="Which rows.")
def export(file: Path, csv_out: Path | None, jsonl_out: Path | None, parquet_out: Path | None, table: str) -> None:
    """Write a table of a log for other programs.

    Every row says which device, model and file it is of.

    A file appears whole, or not at all. Times are nanoseconds, as logged.
    """
    from edge_apps.camera.log.export import STDOUT, check_parquet
    from edge_apps.camera.log.export import export as write
    from edge_apps.camera.log.show import count
    from edge_apps.console import progress

    wanted = {"csv": csv_out, "jsonl": jsonl_out, "parquet": parquet_out}
    asked = {format_: out for format_, out in wanted.items() if out is not None}
    if not asked:
        raise click.UsageError("Say what to write: --csv OUT, --jsonl OUT or --parquet OUT.")
    if len(set(asked.values())) < len(asked):
        raise click.UsageError("Two formats cannot go to the same place: name a file for each.")
    if parquet_out:
        check_parquet()  # before the others are written
    for format_, out in asked.items():
        n = write(file, table, format_, out)
        told = progress() if out == STDOUT else results()
        told.print(f"{count(n, 'row')} of {table}: {out}", markup=False, soft_wrap=True)


@log.command()
@click.argument("out", type=A_PATH)
@click.argument("files", type=A_PATH, nargs=-1, required=True, metavar="FILES...")
def merge(out: Path, files: tuple[Path, ...]) -> None:
    """Write a new log OUT with the runs of several, of any number of devices.

    Histograms and rows are kept as they are. A run that is in two files is in the new one once.
    """
    from edge_apps.camera.log.merge import merge_logs
    from edge_apps.camera.log.show import count

    n = merge_logs(out, files)
    results().print(f"{count(n, 'run')}: {out}", markup=False, soft_wrap=True)


def _print_json(documents: list[dict[str, object]]) -> None:

    echo_json(indented(documents, 2).decode())
