"""A TOML file with the options of ``edge-camera run``: what a service starts with, and what one need not type.

Keys are the long names of the options without the dashes in front (``top-k = 3``). What is on the command line wins,
and ``--without NAME`` there takes out what the file says. Relative paths in the file count from its folder, wherever
the program is started.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import click

from edge_apps.camera.sources.kind import PATHS, looks_like_path, path_from, split_source
from edge_apps.errors import BadInput, first_line
from edge_apps.suggestions import did_you_mean
from edge_apps.untrusted import LARGEST_TOML, parse_toml, read_regular

NOT_IN_A_FILE = frozenset({"config", "without", "help"})

TYPES = {
    dict: "a table",
    list: "a list",
    str: "a text",
    datetime.datetime: "a date with a time",
    datetime.date: "a date",
    datetime.time: "a time",
}
"""What TOML calls what Python makes of it, but for numbers."""


def configure(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """The callback of ``--config`` and ``--without``: what the file says becomes the command's defaults.

    Raises:
        BadInput: no readable TOML, a key that is no option, or a value of another type than the option's; ``--without``
            an option that there is not, or without a file.
    """
    given = context.meta.setdefault(__name__, {})
    given[parameter.name] = value
    if given.keys() < {"config", "without"}:
        return value  # the other one follows: each is called, given or not
    path, without = given["config"], given["without"]
    if path is None and without:
        raise BadInput(f"--without {without[0]} needs a configuration: add --config FILE.")
    if path is not None:
        said = options_in(path, context.command)
        for name in without:
            said.pop(_known(name.lstrip("-"), context.command, f"--without names '{name}'").name, None)
        context.default_map = {**(context.default_map or {}), **said}
    return value


def options_in(path: Path, command: click.Command) -> dict[str, Any]:
    """The options of ``command`` that a file sets, by parameter name, each of the type that the option takes.

    Relative paths are joined to the file's folder.

    Raises:
        BadInput: no readable TOML, a key that is no option, or a value of another type than the option's.
    """
    said, folder, found = _read(path), path.parent.resolve(), {}
    for key, value in said.items():
        option = _known(key, command, f"'{path}' sets '{key}'")
        fault = _fault(option, value)
        if fault:
            raise BadInput(f"'{path}' sets {key} to {_shown(value)}; {fault}.")
        assert option.name is not None
        found[option.name] = _from_folder(folder, option, value)
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        return parse_toml(read_regular(path, LARGEST_TOML), dict[str, Any])
    except OSError as error:
        raise BadInput(f"Cannot read the configuration '{path}': {error.strerror}.") from error
    except ValueError as error:
        raise BadInput(f"'{path}' is no TOML: {first_line(error)}.") from error


def _from_folder(folder: Path, option: click.Option, value: Any) -> Any:
    """A value whose path, if it is or names one, does not depend on where the program is started."""
    if isinstance(option.type, click.Path):
        return str(folder / value)
    return _source_from(folder, value) if option.name == "source_text" else value


def _source_from(folder: Path, text: str) -> str:
    """A source whose path, if it has one, counts from ``folder``."""
    kind, rest = split_source(text, folder)
    if kind in PATHS and rest:
        return f"{text.removesuffix(rest) or f'{kind}:'}{path_from(folder, rest)}"
    return str(path_from(folder, text)) if not kind and looks_like_path(text) else text


def _known(name: str, command: click.Command, where: str) -> click.Option:
    known = options_of(command)
    if name not in known:
        raise BadInput(f"{where}, which is no option of '{command.name}'.{did_you_mean(name, known)} See '--help'.")
    return known[name]


def options_of(command: click.Command) -> dict[str, click.Option]:
    """The options that a file may set, by their name there, in the order of ``--help``."""
    options = {}
    for parameter in command.params:
        if isinstance(parameter, click.Option) and parameter.name not in NOT_IN_A_FILE:
            name = max(parameter.opts, key=len).lstrip("-")
            options[name] = parameter
    return options


def template(command: click.Command) -> str:
    """A configuration file with every option, each explained and commented out."""
    context = click.Context(command)
    lines = [f"# Options of 'edge-camera {command.name}'. Take the # away from those that you set."]
    for name, option in options_of(command).items():
        _, explained = option.get_help_record(context) or ("", "")
        lines += ["", *_comment(explained), f"#{name} = {_example(option, context)}"]
    return "\n".join(lines) + "\n"


def _fault(option: click.Option, value: Any) -> str | None:
    """Why an option cannot have this value, as far as its type says; click checks the rest."""
    if isinstance(value, str) and "\0" in value:
        return "it holds the character NUL, which no option takes"
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if option.multiple:
        fits, words = isinstance(value, list) and all(isinstance(v, str) for v in value), "a list of texts in quotes"
    elif option.is_flag:
        fits, words = isinstance(value, bool), "true or false"
    elif isinstance(option.type, click.types.IntParamType):
        fits, words = is_number and isinstance(value, int), "a whole number"
    elif isinstance(option.type, click.types.FloatParamType):
        fits, words = is_number, "a number"
    else:
        fits, words = isinstance(value, str), "a text in quotes"
    return None if fits else f"it takes {words}"


def _example(option: click.Option, context: click.Context) -> str:
    if option.multiple:
        return '["…"]'
    if option.is_flag:
        return "false" if option.default else "true"
    default = option.get_default(context)
    if isinstance(default, (int, float)):
        return str(default)
    if isinstance(option.type, click.Choice):
        return f'"{option.type.choices[0]}"'
    if isinstance(option.type, (click.types.IntParamType, click.types.FloatParamType)):
        return "1"
    return f'"{option.make_metavar(context) if option.metavar else "…"}"'


def _comment(text: str) -> list[str]:
    import textwrap

    return textwrap.wrap(text, 110, initial_indent="# ", subsequent_indent="# ")


def _shown(value: Any) -> str:
    """As TOML writes it; of a value that may be a password only the type."""
    return TYPES.get(type(value)) or str(value).lower()
