"""The hyperparameters of the zoo's models as command-line options, one for each name, found in the registry."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pipeline import zoo
from pipeline.zoo.spec import ModelSpec, Option, Value, shown

if TYPE_CHECKING:
    from click.formatting import HelpFormatter

F = TypeVar("F", bound=Callable[..., Any])

SECTION = "Options of the model ('pipeline models NAME' explains those of one)"
FEW = 2
"""``--help`` names the families that lack an option where they are not more."""
REFERENCE = re.compile(r" \((§|table|figure)[^)]*\)")
"""Where in the paper: for ``pipeline models NAME``, which is about one paper."""


class ModelOption(click.Option):
    """A hyperparameter; ``section`` is the heading that ``--help`` lists it under."""

    def __init__(self, declarations: Sequence[str], *, section: str, **settings: Any) -> None:
        super().__init__(declarations, **settings)
        self.section = section


class ModelCommand(click.Command):
    """A command whose ``--help`` lists the hyperparameters apart from the other options."""

    def format_options(self, ctx: click.Context, formatter: HelpFormatter) -> None:
        """The command's own options, then each section of hyperparameters."""
        sections: dict[str, list[tuple[str, str]]] = {"Options": []}
        for parameter in self.get_params(ctx):
            record = None if isinstance(parameter, click.Argument) else parameter.get_help_record(ctx)
            if record is not None:
                heading = parameter.section if isinstance(parameter, ModelOption) else "Options"
                sections.setdefault(heading, []).append(record)
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)


def flag(name: str) -> str:
    """Return an option's name as one types it."""
    return f"--{name.replace('_', '-')}"


def model_options(section: str = SECTION) -> Callable[[F], F]:
    """Give a command one option per hyperparameter that any model of the zoo has; None where it is not given."""

    def decorate(command: F) -> F:
        for name, owners in reversed(_by_name().items()):
            command = _option(name, owners, section)(command)
        return command

    return decorate


def given_options(values: Mapping[str, Any]) -> dict[str, Value]:
    """Of a command's arguments, the hyperparameters that were given."""
    return {name: values[name] for name in _by_name() if values.get(name) is not None}


def _by_name() -> dict[str, list[tuple[ModelSpec, Option]]]:
    """Every hyperparameter with the models that have it."""
    found: dict[str, list[tuple[ModelSpec, Option]]] = {}
    for spec in zoo.specs().values():
        for name, option in spec.options.items():
            found.setdefault(name, []).append((spec, option))
    return found


def _option(name: str, owners: list[tuple[ModelSpec, Option]], section: str) -> Callable[[F], F]:
    typed, metavar = flag(name), None
    options = [option for _, option in owners]
    choices = list(dict.fromkeys(str(choice) for option in options for choice in option.choices))
    kind: Any = type(options[0].default)
    if kind is bool:
        typed, kind = f"{typed}/--no-{typed[2:]}", None
    elif kind is str:
        kind = click.Choice(choices)
    elif all(option.choices for option in options):
        metavar = f"[{'|'.join(choices)}]"
    return click.option(
        typed, name, cls=ModelOption, section=section, type=kind, metavar=metavar, default=None, help=_help(owners)
    )


def _help(owners: list[tuple[ModelSpec, Option]]) -> str:
    """What it means, and in brackets whose it is; default and range where all agree, else ``pipeline models NAME``."""
    options = [option for _, option in owners]
    meaning = REFERENCE.sub("", options[0].meaning)
    facts = [_whose([spec for spec, _ in owners])]
    if len({option.default for option in options}) == 1:
        facts.append(f"default: {shown(options[0].default)}")
    ranges = {option.allowed() for option in options}
    if len(ranges) == 1 and not options[0].choices and not isinstance(options[0].default, bool):
        facts.append(options[0].allowed())
    if meaning.split()[0].isalpha():  # base_e stays what it is
        meaning = f"{meaning[0].upper()}{meaning[1:]}"
    return f"{meaning}.  [{'; '.join(facts)}]"


def family(spec: ModelSpec) -> str:
    """The file that defines the model."""
    builder = getattr(spec.builder, "func", spec.builder)  # of a partial
    return str(builder.__module__).rpartition(".")[2]


def _whose(owners: list[ModelSpec]) -> str:
    """Families where all their models have it, else models; where few families lack it, those."""
    members: dict[str, list[str]] = {}
    for spec in zoo.specs().values():
        members.setdefault(family(spec), []).append(spec.name)
    having = {spec.name for spec in owners}
    lacking = [name for name, models in members.items() if not having & set(models)]
    whole = [name for name, models in members.items() if set(models) <= having]
    if len(lacking) + len(whole) == len(members) and len(lacking) <= min(FEW, len(whole) - 1):
        return f"all but {', '.join(lacking)}" if lacking else "all models"
    names = []
    for name, models in members.items():
        names += [name] if name in whole else [model for model in models if model in having]
    return ", ".join(names)
