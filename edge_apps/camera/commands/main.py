"""The program ``edge-camera``: parse, call, print. What a command needs is imported when it runs."""

from __future__ import annotations

from pathlib import Path

import click

from edge_apps import __version__
from edge_apps.camera.commands.benchmark import benchmark
from edge_apps.camera.commands.log import log
from edge_apps.camera.commands.run import check, run
from edge_apps.camera.commands.run_options import RunOptions
from edge_apps.console import echo_json, print_parts, results
from edge_apps.program import Program


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edge-camera")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """Run an exported classifier on pictures, video or a test pattern, and log how long every stage takes."""


@main.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def info(as_json: bool) -> None:
    """What this machine is, its sensors now, and which files it can run; what is missing, and how to get it."""
    from edge_apps.camera.commands import info as machine

    found = machine.info()
    if as_json:
        echo_json(machine.as_json(found))
    else:
        machine.show(found)


@main.command()
def config() -> None:
    """Print a configuration file for 'run --config' with every option explained and commented out."""
    from edge_apps.camera.commands.config import template

    click.echo(template(run), nl=False)


@main.command("install-service")
@click.argument("config_file", metavar="CONFIG", type=click.Path(path_type=Path))
@click.option("--name", default="edge-camera", show_default=True, help="Of the unit.")
@click.option("--user", "for_user", is_flag=True, help="A service of this user, not of the machine.")
@click.option("--yes", is_flag=True, help="Do it. Without this it is only shown.")
def install_service(config_file: Path, name: str, for_user: bool, yes: bool) -> None:
    """Let systemd run 'edge-camera run --config CONFIG' from start to shutdown, and start it again when it ends.

    Prints the unit and what will be done. --yes does it; for a service of the machine that needs root.
    """
    from edge_apps.camera.commands.config import options_in
    from edge_apps.camera.service.install import Configured, advice, install, plan

    options = Configured.of(options_in(config_file, run) if config_file.is_file() else {})
    service = plan(config_file, options, name=name, for_user=for_user)
    hints = advice(config_file, options)
    check(RunOptions(**run.make_context("run", ["--config", str(config_file)]).params))
    out = results()
    out.print(service.unit, markup=False, highlight=False, soft_wrap=True)
    for step in service.steps():
        out.print(f"{'Will ' if not yes else ''}{step}", markup=False, highlight=False, soft_wrap=True)
    for hint in hints:
        out.print(f"Note: {hint}", markup=False, highlight=False, soft_wrap=True)
    if yes:
        install(service)
        out.print(f"Running. See it: {' '.join(service.systemctl)} status {name}", markup=False, highlight=False)
    else:
        out.print("Nothing was done. Do it: add --yes.")


@main.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def sources(as_json: bool) -> None:
    """List what this machine has to look through: cameras on USB and ribbon cables, and what is always there."""
    from edge_apps.camera.sources import show

    found = show.list_sources()
    if as_json:
        echo_json(show.as_json(found))
    else:
        print_parts(show.as_parts(found))


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


main.add_command(run)
main.add_command(benchmark)
main.add_command(log)
