"""What commands of every kind share: bundled options, typed values of options, and what is installed."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from edge_apps.errors import install
from pipeline.errors import MissingExtra

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

F = TypeVar("F", bound=Callable[..., Any])
D = TypeVar("D", bound="DataclassInstance")

trust_option = click.option(
    "--trust",
    metavar="PUBLIC-KEY",
    type=click.Path(path_type=Path),
    help="Refuse a bundle that is not signed with this key (Ed25519, PEM or OpenSSH); see docs/signing.md.",
)


def stacked(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Return a decorator that gives a command all these options, in this order."""

    def decorate(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def taken(kind: type[D], values: Mapping[str, Any]) -> D:
    """Return a command's arguments as a dataclass, whose fields have their names."""
    return kind(**{field.name: values[field.name] for field in fields(kind)})


def needs_export_extra(*, torchao: bool = False) -> None:
    """``MissingExtra`` where the workbench's packages are not installed.

    With ``torchao`` it is imported too, so that what it prints while it loads goes nowhere.
    """
    import importlib
    import importlib.util

    for package in ("torch", "torchao") if torchao else ("torch",):
        if importlib.util.find_spec(package) is None:
            raise MissingExtra(f"This command needs {package}, which is not installed: {install('export')}.")
    if torchao:
        from edge_apps.chatter import hushed

        with hushed():
            importlib.import_module("torchao.quantization.pt2e.quantize_pt2e")


def command_line(ctx: click.Context, leave_out: Collection[str] = ()) -> str:
    """The command as it was typed, without what was left at its default."""
    words = ["pipeline", str(ctx.info_name)]
    for parameter in ctx.command.params:
        name = str(parameter.name)
        value = ctx.params.get(name)
        if ctx.get_parameter_source(name) is not ParameterSource.COMMANDLINE or name in leave_out:
            continue
        if isinstance(parameter, click.Argument):
            words += [str(part) for part in value] if isinstance(value, tuple) else [str(value)]
        elif isinstance(value, bool):
            words.append(parameter.opts[0] if value else parameter.secondary_opts[0])
        elif isinstance(parameter, click.Option) and parameter.multiple:
            words += [word for one in value or () for word in (parameter.opts[0], str(one))]
        else:
            words += [parameter.opts[0], str(value)]
    return shlex.join(words)
