"""``pipeline targets``: the kinds of device file."""

from __future__ import annotations

import click

from edge_apps.console import Line, echo_json, print_parts, table
from edge_apps.json_text import indented
from pipeline import targets
from pipeline.targets.base import Target


@click.command("targets", short_help="List the kinds of device file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> None:
    """Show every target: its file, its precisions, where it runs, and what is missing to export it here."""
    known = list(targets.targets().values())
    if as_json:
        echo_json(indented([_described(target) for target in known]))
        return
    shown = table()
    for column in ("target", "file", "precisions", "also called", "runs on", "here"):
        shown.add_column(column, overflow="fold")
    missing = {target.name: target.missing() for target in known}
    for target in known:
        precisions, aliases = ", ".join(target.precisions), ", ".join(target.aliases)
        here = "ready" if missing[target.name] is None else "not installed"
        shown.add_row(target.name, target.suffix, precisions, aliases, target.summary, here)
    print_parts([shown, *(Line(f"{name}: {what}") for name, what in missing.items() if what)])


def _described(target: Target) -> dict[str, object]:
    return {
        "name": target.name,
        "suffix": target.suffix,
        "aliases": list(target.aliases),
        "precisions": list(target.precisions),
        "summary": target.summary,
        "missing": target.missing(),
    }
