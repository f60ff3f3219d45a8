"""The program ``edge-camera``: parse, call, print. What a command needs is imported when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_apps import __version__
from edge_apps.console import Program, results

if TYPE_CHECKING:
    from edge_apps.camera.summary import Group


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edge-camera")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """Run an exported classifier on pictures, video or a test pattern, and log how long every stage takes."""


@main.command()
@click.option(
    "--model", "-m", required=True, type=click.Path(path_type=Path), help="A bundle, or one exported file of any kind."
)
@click.option(
    "--target",
    help="Which files of a bundle: a target (executorch, coreml, tflite) or suffix (pte, mlpackage). "
    "A single file must be of it.",
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "int8", "int8-weights"]),
    help="Likewise. Without both: an int8 file that this machine can run, else fp16, else fp32; .tflite first.",
)
@click.option(
    "--source",
    "-s",
    "source_text",
    required=True,
    metavar="SOURCE",
    help="folder:PATH (all pictures below a folder or in a .tar, by name), video:FILE, or test-pattern.",
)
@click.option("--loop", is_flag=True, help="Start a folder or video again when it ends.")
@click.option("--frames", type=click.IntRange(min=1), help="Stop after this many classified frames.")
@click.option("--top-k", type=click.IntRange(min=1), help="Labels shown per frame. [default: 3]")
@click.option("--threads", type=click.IntRange(min=1), help="Threads of one inference. [default: all cores, at most 4]")
@click.option(
    "--warmup",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Inferences before the first frame; the first of them is logged as the cold one.",
)
@click.option("--log", type=click.Path(path_type=Path), help="Append this run to a latency log (SQLite).")
@click.option("--quiet", "-q", is_flag=True, help="No word per frame: only the start and the summary.")
@click.option("--json", "as_json", is_flag=True, help="JSON lines: session, frame, skipped, event, summary.")
def run(
    model: Path,
    target: str | None,
    precision: str | None,
    source_text: str,
    loop: bool,
    frames: int | None,
    top_k: int | None,
    threads: int | None,
    warmup: int,
    log: Path | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Classify frame after frame: capture, preprocess, infer, postprocess, each timed.

    Ends when the source ends, after --frames, or in order on Ctrl-C or SIGTERM: the log is then complete and the exit
    status is 0, as for every run that classified a frame. A picture that cannot be read is told, logged, counted and
    skipped; the status is 1 if there was no other.
    """
    from edge_apps.camera.log import check_is_log
    from edge_apps.camera.model import open_model
    from edge_apps.camera.output import ForPeople, ForPrograms
    from edge_apps.camera.run import run as run_camera
    from edge_apps.camera.sources import parse_source

    source = parse_source(source_text, loop)
    if log:
        check_is_log(log)  # before the model is loaded; the file itself is made when the first frame is near
    opened = open_model(model, target, precision, threads)
    expected = min((n for n in (source.length, frames) if n is not None), default=None)
    output = ForPrograms(quiet=quiet) if as_json else ForPeople(lines=source.has_names, quiet=quiet, expected=expected)
    run_camera(source, opened, output, top_k=top_k, warmup=warmup, frames=frames, log=log)


@main.group()
def setup() -> None:
    """Prepare this machine, once."""


@setup.command()
@click.option("--compiler", default="g++", show_default=True, help="The C++ compiler to use.")
def executorch(compiler: str) -> None:
    """Build what runs .pte files without torch, for the installed executorch wheel.

    It is one C++ file over the wheel's own libraries, and lies in the cache folder of this user afterwards. Every
    command that runs .pte files uses it from then on. Another executorch wheel needs another 'setup executorch'.
    """
    from edge_apps.runtime import executorch_native as native

    path = native.build(compiler)
    results().print(f"Built for executorch {native.version()}: {path}", markup=False, soft_wrap=True)


@main.group()
def log() -> None:
    """Read latency logs."""


@log.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def summary(file: Path, as_json: bool) -> None:
    """Per device, model file and runtime: n, p50, p90, p95, p99 and max of every stage, in milliseconds.

    Frames of runs that agree in device, file, runtime, threads and source are pooled; percentiles are of single frames.
    """
    import msgspec

    from edge_apps.camera.summary import summarize_log

    groups = summarize_log(file)
    if as_json:
        from edge_apps.camera.output import stages_as_json

        documents = [{**msgspec.to_builtins(g), "stages": stages_as_json(g.stages)} for g in groups]
        print(msgspec.json.format(msgspec.json.encode(documents)).decode())
        return
    for group in groups:
        _print_group(group)


def _print_group(group: Group) -> None:
    from rich.text import Text

    from edge_apps.camera.output import print_stages

    out = results()
    out.print(Text(f"{group.device} · {group.device.os} · device {group.fingerprint}"))
    out.print(
        Text(
            f"{group.file} (sha256 {group.sha256[:12]}…): {group.model} {group.precision}, input {group.input}, "
            f"{group.runtime}, {_count(group.threads, 'thread')}"
        )
    )
    runs = _count(len(group.started), "run")
    unfinished = f", {group.unfinished} running or killed" if group.unfinished else ""
    events = "".join(f", {_count(n, 'frame')} {kind}" for kind, n in group.events.items())
    out.print(Text(f"{group.source}: {runs} since {group.started[0]}{unfinished}{events}"))
    out.print(f"Cold: loaded in {_range(group.load_ms)} ms, first inference {_range(group.first_ms)} ms")
    if group.stages:
        print_stages("", group.stages)
    else:
        out.print("No frame was logged.")
    out.print()


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'s' if n != 1 else ''}"


def _range(values: tuple[float, ...]) -> str:
    low, high = f"{min(values):.1f}", f"{max(values):.1f}"
    return low if low == high else f"{low}…{high}"
