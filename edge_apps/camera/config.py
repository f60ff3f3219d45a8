"""A TOML file with the options of ``edge-camera run``: what a service starts with, and what one need not type.

Keys are the long names of the options without the dashes in front (``top-k = 3``). What is on the command line wins.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import click
import msgspec

from edge_apps.errors import BadInput

NOT_IN_A_FILE = frozenset({"config", "help"})


def read_config(context: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
    """The callback of ``--config``: what the file says becomes the command's defaults.

    Raises:
        BadInput: no readable TOML, a key that is no option, or a value of another type than the option's.
    """
    del parameter
    if path is None:
        return None
    context.default_map = {**(context.default_map or {}), **options_in(path, context.command)}
    return path


def options_in(path: Path, command: click.Command) -> dict[str, Any]:
    """The options of ``command`` that a file sets, by parameter name, each of the type that the option takes."""
    try:
        said = msgspec.toml.decode(path.read_bytes())
    except OSError as error:
        raise BadInput(f"Cannot read the configuration '{path}': {error.strerror}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"'{path}' is no TOML: {error}.") from error
    known = options_of(command)
    found = {}
    for key, value in said.items():
        option = known.get(key)
        if option is None:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise BadInput(f"'{path}' sets '{key}', which is no option of '{command.name}'.{hint} See '--help'.")
        fault = _fault(option, value)
        if fault:
            raise BadInput(f"'{path}' sets {key} to {_shown(value)}; {fault}.")
        assert option.name is not None
        found[option.name] = value
    return found


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
        return "true"
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
    """Of a value that may be a password only the type."""
    return repr(value) if isinstance(value, (bool, int, float)) else f"a {type(value).__name__}"
