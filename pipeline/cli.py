"""The program ``pipeline``: its verbs are the files of ``pipeline/commands``."""

from __future__ import annotations

import importlib
import pkgutil

import click

import pipeline.commands
from edge_apps import __version__
from edge_apps.program import Program
from edge_apps.suggestions import did_you_mean


class Verbs(Program):
    """Finds a verb by listing the folder; the verb ``import-weights`` lives in ``import_weights.py``."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        modules = pkgutil.iter_modules(pipeline.commands.__path__)
        return sorted(module.name.replace("_", "-") for module in modules if not module.ispkg)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        known = self.list_commands(ctx)
        if name not in known:
            raise click.UsageError(f"No command '{name}'.{did_you_mean(name, known)} Known: {', '.join(known)}.", ctx)
        module = importlib.import_module(f"pipeline.commands.{name.replace('-', '_')}")
        command: click.Command = module.command
        return command


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pipeline")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """Take a trained image classifier to phones and boards, with proof.

    Start with 'pipeline demo'.
    """
