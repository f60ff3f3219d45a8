"""The command ``edge-camera benchmark``: parse, call, print. What it needs is imported when it runs."""

from __future__ import annotations

from pathlib import Path

import click

from edge_apps.camera.commands.device_options import device_name_option
from edge_apps.camera.commands.model_options import model_options
from edge_apps.console import echo_json, print_parts


@click.command()
@model_options
@click.option(
    "--source",
    "-s",
    "source_text",
    default="test-pattern",
    show_default=True,
    metavar="SOURCE",
    help="Where the pictures come from. The first 32, or what a camera gives in 30 s, are "
    "held in memory and used over and over.",
)
@click.option("--burst", is_flag=True, help="The default: at least 1,024 inferences and at least 60 s.")
@click.option(
    "--sustained", metavar="DURATION", help="So long (90s, 10m, 1h), minute by minute: does it get slower when hot?"
)
@click.option("--seconds", type=float, help="Another least time of a burst. [default: 60]")
@click.option("--inferences", type=click.IntRange(1), help="Another least number of a burst. [default: 1024]")
@device_name_option
@click.option("--log", type=click.Path(path_type=Path), help="Append the inferences to a latency log (SQLite).")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def benchmark(
    model: Path,
    trust: Path | None,
    target: str | None,
    precision: str | None,
    threads: int | None,
    xnnpack: bool,
    source_text: str,
    burst: bool,
    sustained: str | None,
    seconds: float | None,
    inferences: int | None,
    device_name: str | None,
    log: Path | None,
    as_json: bool,
) -> None:
    """How fast a model runs here: a single stream, batch 1, one inference after the other.

    First it warms up until the median of 32 inferences is within 2 % of that of the 32 before: 1 to 30 s. A run is
    flagged THROTTLED when the machine said so or its clock fell below 90 %, and UNSTABLE when the coefficient of
    variation exceeds 10 %. Ctrl-C or SIGTERM ends it in order, marked INCOMPLETE. The status is 0 in all these cases.
    """
    from edge_apps.camera.benchmark.measure import benchmark as run_benchmark
    from edge_apps.camera.benchmark.measure import plan_of
    from edge_apps.camera.benchmark.report import report
    from edge_apps.camera.benchmark.show import as_json as as_json_of
    from edge_apps.camera.benchmark.show import as_parts
    from edge_apps.camera.commands.benchmark_progress import Going
    from edge_apps.camera.inference.model import open_model
    from edge_apps.camera.log import check_is_log
    from edge_apps.camera.sources.parse import SourceOptions, parse_source, takes
    from edge_apps.runtime.signature import trusted_key

    plan = plan_of(burst, sustained, seconds, inferences)
    source = parse_source(source_text, SourceOptions(every_frame=takes(source_text, "every_frame")))  # at any pace
    if log:
        check_is_log(log)
    opened = open_model(model, target, precision, threads, xnnpack=xnnpack, trust=trusted_key(trust))
    session, measured = run_benchmark(source, opened, plan, Going(), log=log, device_name=device_name)
    found = report(session, measured, plan)
    if as_json:
        echo_json(as_json_of(session, found))
    else:
        print_parts(as_parts(session, found))
    if measured.log_fault:
        raise measured.log_fault
