"""``edge-camera log``: parse, call, print. What a command needs is imported when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_apps.console import echo_json, or_dash, results

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edge_apps.camera.log.compare import Compared
    from edge_apps.camera.log.summary import Group, State

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
    from edge_apps.camera.log.summary import summarize_log

    groups = summarize_log(file)
    if as_json:
        _print_json([{**msgspec.to_builtins(g), "stages": stages_as_json(g.stages)} for g in groups])
        return
    for group in groups:
        _print_group(group)


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

    if plot:
        from edge_apps.camera.log.plot import check_plot, write_plot

        check_plot(plot)
    compared = compare_logs(files)
    if as_json:
        _print_json(in_json(compared))
    else:
        _print_compared(compared)
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
        told.print(f"{_count(n, 'row')} of {table}: {out}", markup=False, soft_wrap=True)


@log.command()
@click.argument("out", type=A_PATH)
@click.argument("files", type=A_PATH, nargs=-1, required=True, metavar="FILES...")
def merge(out: Path, files: tuple[Path, ...]) -> None:
    """Write a new log OUT with the runs of several, of any number of devices.

    Histograms and rows are kept as they are. A run that is in two files is in the new one once.
    """
    from edge_apps.camera.log.merge import merge_logs

    n = merge_logs(out, files)
    results().print(f"{_count(n, 'run')}: {out}", markup=False, soft_wrap=True)


def _print_json(documents: list[dict[str, object]]) -> None:
    import msgspec

    echo_json(msgspec.json.format(msgspec.json.encode(documents)).decode())


def _print_group(group: Group) -> None:
    from rich.text import Text

    from edge_apps.camera.commands.output import print_stages
    from edge_apps.camera.log.devices import described

    out = results()
    device = described(group.device_id, group.device_name, group.device)
    out.print(Text(f"{device} · {group.device.os}"), soft_wrap=True)
    out.print(
        Text(
            f"{group.file} (sha256 {group.sha256[:12]}…): {group.model} {group.precision}, input {group.input}, "
            f"{group.runtime}, {_count(group.threads, 'thread')}"
        )
    )
    runs = _count(len(group.started), "run")
    unfinished = f", {group.unfinished} running or killed" if group.unfinished else ""
    events = "".join(f", {kind} {n:,}×" for kind, n in group.events.items())
    out.print(Text(f"{group.setup}: {runs} since {group.started[0]}{unfinished}{events}"))
    out.print(f"Cold: loaded in {_range(group.load_ms)} ms, first inference {_range(group.first_ms)} ms")
    if state := _state(group.state, group.power):
        out.print(Text(state))
    if not group.stages:
        out.print("No frame was logged.")
    else:
        if headline := _headline(group):
            out.print(headline)
        print_stages("", group.stages)
    for line in _from_histograms(group):
        out.print(Text(line))
    out.print()


def _headline(group: Group) -> str:
    """Say what matters first: how late an answer is, and how many there are."""
    latency = group.stages.get("age")
    parts = [f"End-to-end latency p50 {latency.p50:.2f} ms, p99 {latency.p99:.2f} ms"] if latency else []
    if group.fps is not None:
        parts.append(f"throughput {group.fps:.1f} fps" if parts else f"Throughput {group.fps:.1f} fps")
    return "; ".join(parts)


def _from_histograms(group: Group) -> Iterable[str]:
    """What the caps, or a full disk, took, and what that means for the figures."""
    from edge_apps.runtime.histogram import RELATIVE_ERROR

    if group.by_histogram:
        yield (
            f"The rows of {_count(group.frames_dropped, 'frame')} were dropped: {group.by_histogram:,} frames count by "
            f"the histograms of their windows. Percentiles are within {RELATIVE_ERROR:.1%}; n, mean and max are exact."
        )
    if group.missing:
        yield f"{_count(group.missing, 'frame')} of those dropped are in no figure: their windows are gone, too."


def _state(state: State, power: str) -> str:
    """How the device did, as far as it says."""
    parts = []
    if state.temperature_max is not None:
        parts.append(f"up to {state.temperature_max:.1f} °C")
    if state.clock_min is not None:
        parts.append(f"clock down to {state.clock_min:,.0f} MHz")
    if state.throttled is not None:
        by = ", ".join(state.throttled_by)
        parts.append(f"held back {state.throttled:.1%} of the time{f' ({by})' if by else ''}")
    if state.memory_max is not None:
        parts.append(f"memory up to {state.memory_max:,.0f} MB")
    if power:
        parts.append(power)
    return f"Device: {'; '.join(parts)}" if parts else ""


def _print_compared(compared: list[Compared]) -> None:
    """First who is who, then the figures by letter: names are long, and columns are many."""
    from rich.text import Text

    from edge_apps.camera.commands.output import INDICATIVE
    from edge_apps.camera.inference.stage_names import NAMES
    from edge_apps.camera.log.compare import SHOWN
    from edge_apps.camera.log.devices import described
    from edge_apps.console import table
    from edge_apps.runtime.histogram import RELATIVE_ERROR

    out = results()
    for number, line in enumerate(compared, 1):
        g = line.group
        what = f"{g.file} ({g.model} {g.precision}, {g.input}), {g.runtime}, {_count(g.threads, 'thread')}, {g.setup}"
        what += f", {g.power}" if g.power else ""
        device = described(g.device_id, g.device_name, g.device)
        out.print(Text(f"{number:>2}  {device}\n    {what}"), soft_wrap=True)
    out.print()
    shown = table(None)
    shown.add_column("", justify="right")
    percentiles = [name for stage in SHOWN for name in (f"{NAMES[stage]}\np50", "\np90", "\np99")]
    for name in ("\nn", "\nfps", *percentiles, "\nload", "\nheld back", "\nmax °C"):
        shown.add_column(name, justify="right")
    for number, line in enumerate(compared, 1):
        shown.add_row(str(number), *_cells(line.group))
    out.print(shown)
    notes = ["Milliseconds; percentiles of single frames."]
    if any(line.group.stages["total"].p99_is_indicative for line in compared):
        notes.append(f"{INDICATIVE}.")
    if any(line.group.by_histogram for line in compared):
        notes.append(f"~ partly by merged histograms: within {RELATIVE_ERROR:.1%}.")
    out.print(Text(" ".join(notes)))


def _cells(group: Group) -> list[str]:
    from edge_apps.camera.log.compare import SHOWN

    about = "~" if group.by_histogram else ""
    cells = [f"{group.stages['total'].n:,}", or_dash(group.fps, ".1f")]
    for stage in SHOWN:
        figures = group.stages.get(stage)
        if figures is None:
            cells += ["–"] * 3  # version 1 did not measure the age
            continue
        star = "*" if figures.p99_is_indicative else ""
        cells += [f"{about}{figures.p50:.2f}", f"{about}{figures.p90:.2f}", f"{about}{figures.p99:.2f}{star}"]
    state = group.state
    return [
        *cells,
        _range(group.load_ms),
        or_dash(state.throttled, ".1%"),
        or_dash(state.temperature_max, ".1f"),
    ]


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'s' if n != 1 else ''}"


def _range(values: tuple[float, ...]) -> str:
    low, high = f"{min(values):.1f}", f"{max(values):.1f}"
    return low if low == high else f"{low}…{high}"
