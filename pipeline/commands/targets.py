"""``pipeline targets``: the kinds of device file."""

from __future__ import annotations

import click

from edge_apps.console import echo_json, results, table
from edge_apps.json_text import indented
from pipeline import targets


@click.command("targets", short_help="List the kinds of device file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> None:
    """Show every target: its file, its precisions, where it runs, and what is missing to export it here."""
    rows = [
        {
            "name": target.name,
            "suffix": target.suffix,
            "aliases": list(target.aliases),
            "precisions": list(target.precisions),
            "summary": target.summary,
            "missing": target.missing(),
        }
        for target in targets.targets().values()
    ]
    if as_json:
        echo_json(indented(rows))
        return
    shown = table()
    for column in ("target", "file", "precisions", "also called", "runs on", "here"):
        shown.add_column(column, overflow="fold")
    for row in rows:
        shown.add_row(
            str(row["name"]),
            str(row["suffix"]),
            ", ".join(row["precisions"] or []),
            ", ".join(row["aliases"] or []),
            str(row["summary"]),
            "ready" if row["missing"] is None else "not installed",
        )
    console = results()
    console.print(shown)
    for row in rows:
        if row["missing"]:
            console.print(f"{row['name']}: {row['missing']}", markup=False, soft_wrap=True)
