"""Completion answers the shell that asks for it, and nothing else: a variable of the environment runs no gate."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edge_apps.camera.commands.main import main as edge_camera
from pipeline.cli import main as pipeline

PROGRAMS = {"pipeline": pipeline, "edge-camera": edge_camera}
MODULES = {"pipeline": "pipeline.cli", "edge-camera": "edge_apps.camera.commands.main"}


def start(program: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run it in a process of its own, by the name that completion knows it by."""
    code = f"from {MODULES[program]} import main; main(prog_name={program!r})"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("instruction", ["bash_source", "bash_complete", "zsh_source", "fish_complete", "nonsense"])
@pytest.mark.parametrize(
    ("program", "arguments"),
    [("pipeline", ["gate", "no-such-bundle", "--data", "digits"]), ("edge-camera", ["run", "--model", "none"])],
)
def test_a_command_runs_whatever_the_variable_says(program: str, arguments: list[str], instruction: str) -> None:
    variable = f"_{program.replace('-', '_')}_COMPLETE".upper()
    ended = start(program, *arguments, **{variable: instruction, "COMP_WORDS": f"{program} ", "COMP_CWORD": "1"})
    assert ended.returncode == 2, ended.stdout
    assert ended.stdout == ""
    assert ended.stderr.startswith("Error: ")


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_shell_gets_its_script_and_its_words(program: str, shell: str) -> None:
    """Called without arguments, as the script itself calls it."""
    variable = f"_{program.replace('-', '_')}_COMPLETE".upper()
    script = start(program, **{variable: f"{shell}_source"})
    assert script.returncode == 0
    assert f"{variable}={shell}_complete" in script.stdout
    word = {"pipeline": "ga", "edge-camera": "ru"}[program]
    words = start(program, **{variable: f"{shell}_complete", "COMP_WORDS": f"{program} {word}", "COMP_CWORD": "1"})
    assert words.returncode == 0
    found = {"pipeline": "gate", "edge-camera": "run"}[program]
    assert found in words.stdout.replace(",", "\n").splitlines()


def test_bash_completes(tmp_path: Path) -> None:
    """The script that a user sources, in a real bash."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash on this machine: its completion was NOT tested")
    program = tmp_path / "pipeline"
    code = "import sys; sys.argv[0] = 'pipeline'; from pipeline.cli import main; main()"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{code}" "$@"\n')
    program.chmod(0o755)
    script = 'eval "$(_PIPELINE_COMPLETE=bash_source pipeline)"; COMP_WORDS=(pipeline ga); COMP_CWORD=1; '
    script += '_pipeline_completion pipeline; echo "found ${COMPREPLY[@]}"'
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
    }
    ended = subprocess.run([bash, "-c", script], env=environment, capture_output=True, text=True, timeout=120)
    assert ended.stdout.splitlines()[-1] == "found gate", ended.stderr
