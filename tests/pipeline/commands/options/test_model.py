"""Hyperparameters on the command line: numbers, switches and words, and how ``--help`` shows them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import click
import pytest
from click.testing import CliRunner

from pipeline import zoo
from pipeline.commands import calibrate, export, models, train
from pipeline.commands.options.model import (
    ModelCommand,
    ModelOption,
    family,
    flag,
    given_options,
    model_options,
    shown,
)
from pipeline.commands.train import command_line
from pipeline.zoo.spec import ModelSpec, Option

Run = Callable[..., Any]
COMMANDS = [calibrate.command, export.command, models.command, train.command]


def build(classes: int) -> Any:
    """Never called."""
    raise AssertionError(classes)


def spec(name: str, **options: Option) -> ModelSpec:
    return ModelSpec(name, name, "none", "Nothing.", build, 8, options)


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> None:
    """A zoo of three models in two families."""
    wide = Option(1.0, "width multiplier: of channels (§5.1)", 0.1, 4.0)
    a = spec("a", width=wide, kind=Option("x", "what kind", choices=("x", "y")), batch_norm=Option(False, "a norm"))
    b = spec("b", width=wide, groups=Option(3, "groups", choices=(1, 3)), kind=Option("y", "sort", choices=("y", "z")))
    other = replace(spec("c", width=replace(wide, default=2.0)), builder=lambda classes: zoo.get(str(classes)).build())
    object.__setattr__(other.builder, "__module__", "pipeline.zoo.other")
    known = {each.name: each for each in (a, b, other)}
    monkeypatch.setattr(zoo, "specs", lambda: known)


@pytest.fixture
def command(three: None) -> click.Command:  # noqa: ARG001 - the zoo is small while the command is made
    @click.command("do", cls=ModelCommand)
    @click.option("--out", help="Where to.")
    @model_options("Of the model")
    @click.pass_context
    def do(ctx: click.Context, out: str | None, **values: Any) -> None:
        click.echo(f"{out} {given_options(values)} {command_line(ctx)}")

    return do


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        ([], "{}"),
        (["--width", "2"], "{'width': 2.0}"),
        (["--groups", "1", "--kind", "z"], "{'kind': 'z', 'groups': 1}"),
        (["--batch-norm"], "{'batch_norm': True}"),
        (["--no-batch-norm"], "{'batch_norm': False}"),
    ],
)
def test_what_was_given(command: click.Command, arguments: list[str], given: str) -> None:
    """And it is recorded as it was typed: a switch that is off is not lost."""
    ended = CliRunner().invoke(command, arguments)
    assert ended.exit_code == 0, ended.output
    typed = " ".join(["pipeline", "do", *arguments])
    recorded = ended.output.strip().removeprefix(f"None {given} ")
    assert sorted(recorded.replace("2.0", "2").split()) == sorted(typed.split())


@pytest.mark.parametrize(
    "arguments", [["--width", "wide"], ["--kind", "w"], ["--groups", "1.5"], ["--batch-norm", "1"]]
)
def test_what_is_no_such_value(command: click.Command, arguments: list[str]) -> None:
    assert CliRunner().invoke(command, arguments).exit_code == 2


def test_help_lists_them_apart_with_whose_they_are(command: click.Command) -> None:
    text = CliRunner().invoke(command, ["--help"], terminal_width=100).output
    own, section = text.split("Of the model:")
    assert "--out TEXT" in own
    assert "--width" not in own
    assert "--help" in own
    lines = " ".join(section.split())
    assert "--width FLOAT Width multiplier: of channels. [all models; 0.1 to 4.0]" in lines
    assert "--kind [x|y|z] What kind. [test_model]" in lines
    assert "--groups [1|3] Groups. [b; default: 3]" in lines
    assert "--batch-norm / --no-batch-norm A norm. [a; default: no]" in lines


def test_families_that_lack_one_are_named(three: None, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001
    fourth = replace(spec("d"), builder=lambda **_: build(1))
    object.__setattr__(fourth.builder, "__module__", "pipeline.zoo.fourth")
    monkeypatch.setitem(zoo.specs(), "d", fourth)
    assert family(fourth) == "fourth"
    made = model_options()(lambda: None)
    width = next(option for option in made.__click_params__ if option.name == "width")  # type: ignore[attr-defined]
    assert width.help.endswith("[all but fourth; 0.1 to 4.0]")


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_a_command_has_every_hyperparameter_once_and_none_hides_its_own_options(command: click.Command) -> None:
    own = [parameter for parameter in command.params if not isinstance(parameter, ModelOption)]
    found = [parameter for parameter in command.params if isinstance(parameter, ModelOption)]
    names = {name for each in zoo.specs().values() for name in each.options}
    assert sorted(str(option.name) for option in found) == sorted(names)
    flags = [word for parameter in command.params for word in (*parameter.opts, *parameter.secondary_opts)]
    assert len(flags) == len(set(flags))
    assert not names & {str(parameter.name) for parameter in own}
    assert {flag(name) for name in names} <= set(flags)


def test_how_values_are_shown() -> None:
    assert [shown(value) for value in (True, False, 1.0, 3, "3x3")] == ["yes", "no", "1.0", "3", "3x3"]


@pytest.mark.parametrize("verb", ["calibrate", "export"])
def test_a_state_dict_says_nothing_of_itself(pipeline: Run, verb: str, tmp_path: Any) -> None:
    """Options of its model are taken, those of others refused, naming what the model has."""
    import torch

    state = tmp_path / "state.pt"
    torch.save(zoo.get("mobilenet_v2").build(2, width=0.1).state_dict(), state)
    labels = tmp_path / "labels.txt"
    labels.write_text("a\nb\n")
    given = [verb, state, "--model", "mobilenet_v2", "--labels", labels, "--data", tmp_path / "none"]
    given += ["--out", tmp_path / "out.json"] if verb == "calibrate" else ["--out", tmp_path / "out"]
    assert "no option 'groups'. Known: width" in pipeline(*given, "--groups", 3).error()
    assert "state.pt' is no mobilenet_v2 (width 1.0, " in pipeline(*given).error()
    assert "No such folder or tar" in pipeline(*given, "--width", 0.1).error()


def test_a_checkpoint_that_says_its_options_is_not_contradicted(pipeline: Run, tmp_path: Any) -> None:
    error = pipeline("calibrate", "--data", "digits", "--out", tmp_path / "r.json", "--width", 0.5).error()
    assert "mobilenet_v2-digits.safetensors' says options" in error
    assert "leave it out" in error
