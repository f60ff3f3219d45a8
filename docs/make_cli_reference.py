"""Writes ``docs/cli.md`` from the programs' own ``--help``; a test holds the two together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from edge_apps.camera.commands.main import main as edge_camera
from pipeline.cli import main as pipeline

OUT = Path(__file__).with_name("cli.md")
WIDTH = 100


def reference() -> str:
    """The whole page."""
    parts = [
        "# Commands\n\nMade by `python docs/make_cli_reference.py` from `--help`. Exit status: 0 done, 1 failed, 2 "
        "wrong usage or bad input, 3 the gate failed, 4 the gate could not decide, 130 Ctrl-C, 143 SIGTERM. Results go "
        "to stdout, progress and errors to stderr; `--debug` anywhere shows the traceback of an error.\n"
    ]
    for name, program in (("pipeline", pipeline), ("edge-camera", edge_camera)):
        for path, command in _commands(name, program, None):
            context = click.Context(
                command,
                info_name=path,
                terminal_width=WIDTH,
                max_content_width=WIDTH,
                help_option_names=["-h", "--help"],  # as the programs have them; click keeps what it saw first
            )
            level = "#" * (2 + path.count(" "))
            parts.append(f"{level} {path}\n\n```\n{command.get_help(context)}\n```\n")
    return "\n".join(parts)


def _commands(path: str, command: click.Command, parent: click.Context | None) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command, parent=parent, info_name=path)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from _commands(f"{path} {name}", child, context)


@click.command(help=__doc__)
@click.option("--check", is_flag=True, help="Write nothing; fail where the page says something else.")
def main(check: bool) -> None:
    """Write or check the page."""
    made = reference()
    if not check:
        OUT.write_text(made, "utf-8")
    elif OUT.read_text("utf-8") != made:
        raise click.ClickException(f"docs/{OUT.name} is not what --help says: run python docs/{Path(__file__).name}.")


if __name__ == "__main__":
    main()
