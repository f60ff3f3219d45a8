"""Settings in messages, as Python and as the command line have them."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from edge_apps.camera.commands.main import main as edge_camera
from edge_apps.settings import as_options
from pipeline.cli import main as pipeline

ROOT = Path(__file__).parents[2]
SETTING = re.compile(r"(?<!`)`[a-z][a-z0-9_]*(?:=[^`]+)?`(?!`)")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Choose another `out`.", "Choose another --out."),
        ("Try `calibration_size`, or `precision=int8`.", "Try --calibration-size, or --precision int8."),
        ("Leave `ema=False` out, or give `force=True`.", "Leave --no-ema out, or give --force."),
        ("at `$.precision` in 'my `File`.png' ``x``", "at `$.precision` in 'my `File`.png' ``x``"),
    ],
)
def test_as_options(text: str, shown: str) -> None:
    assert as_options(text) == shown


def commands(command: click.Command) -> Iterator[click.Command]:
    yield command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from commands(child)


def options() -> set[str]:
    """Every option of both programs, as it is typed."""
    found = set()
    for program in (pipeline, edge_camera):
        for command in commands(program):
            for parameter in command.params:
                found |= {*parameter.opts, *parameter.secondary_opts}
    return found


def messages() -> Iterator[tuple[str, str]]:
    """Every text in the code that names a setting, with its place; docstrings left out."""
    for top in ("pipeline", "calibration", "edge_apps"):
        for path in (ROOT / top).rglob("*.py"):
            tree = ast.parse(path.read_text("utf-8"))
            docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
            for node in ast.walk(tree):
                if isinstance(node, ast.JoinedStr):
                    text = "".join(part.value if isinstance(part, ast.Constant) else "1" for part in node.values)
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", text
                elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", node.value


def test_every_setting_in_a_message_is_an_option() -> None:
    known = options()
    assert "--out" in known
    named = [(where, name) for where, text in messages() for name in SETTING.findall(text)]
    assert len(named) > 50
    assert [(where, name) for where, name in named if as_options(name).split()[0] not in known] == []


COMMANDS = ("commands", "cli.py", "program.py", "console.py", "settings.py")
PROGRAMS_OF_OTHERS = (
    "edge_apps/camera/capture/csi.py",
    "edge_apps/camera/service/install.py",
    "edge_apps/runtime/executorch_native.py",
    "pipeline/compat/executorch.py",
)
"""These start programs that have options of their own, and say how pip is called."""


def test_only_commands_speak_of_options() -> None:
    found = []
    for where, text in messages():
        path = where.partition(":")[0]
        if not set(Path(path).parts) & set(COMMANDS) and path not in PROGRAMS_OF_OTHERS:
            found += [f"{where}: {option}" for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)]
    assert found == []


def test_only_commands_print() -> None:
    """``show.py`` files make tables; a command prints them. Nothing else knows rich."""
    found = []
    for top in ("pipeline", "calibration", "edge_apps"):
        for path in (ROOT / top).rglob("*.py"):
            text, place = path.read_text("utf-8"), path.relative_to(ROOT)
            shows = path.stem.endswith("show") or place.name in ("console.py", "progress_bars.py")
            if "commands" not in place.parts and not shows and re.search(r"^\s*(from|import) rich", text, re.M):
                found.append(f"{place}: imports rich")
            if not {"commands", "console.py"} & {*place.parts} and re.search(
                r"\b(results|progress)\(\)\.(print|out)\(", text
            ):
                found.append(f"{place}: prints")
    assert found == []
