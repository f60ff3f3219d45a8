"""``pipeline targets`` as it is typed."""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from pipeline import targets

Run = Callable[..., Any]


def test_every_target_with_its_file_and_precisions(pipeline: Run) -> None:
    ended = pipeline("targets", "--json")
    assert (ended.status, ended.err) == (0, "")
    rows = {row["name"]: row for row in json.loads(ended.out)}
    assert list(rows) == ["coreml", "executorch", "tflite"]
    assert [row["suffix"] for row in rows.values()] == [".mlpackage", ".pte", ".tflite"]
    assert rows["executorch"]["precisions"] == ["fp32", "fp16", "int8"]
    for name in ("coreml", "tflite"):
        assert rows[name]["precisions"] == ["fp32", "fp16", "int8", "int8-weights"]
    assert all(row["missing"] is None for row in rows.values())


def test_the_table_shows_names_that_people_type(pipeline: Run) -> None:
    table = pipeline("targets").out
    for name in ("coreml", "executorch", "tflite", "pte", "mlpackage", "ios", "litert", "int8-weights"):
        assert name in table
    assert table.count("ready") == 3


def test_no_alias_is_claimed_twice() -> None:
    said = [alias for target in targets.targets().values() for alias in (target.name, *target.aliases)]
    assert len(said) == len(set(said))


@pytest.mark.parametrize(("package", "target"), [("litert_torch", "tflite"), ("coremltools", "coreml")])
def test_what_is_missing_names_the_pip_command(
    pipeline: Run, monkeypatch: pytest.MonkeyPatch, package: str, target: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    rows = {row["name"]: row["missing"] for row in json.loads(pipeline("targets", "--json").out)}
    assert rows.pop(target) == f"{package} not installed: pip install '.[export]' in a checkout of edge-pipeline"
    assert set(rows.values()) == {None}
    *table, last = pipeline("targets").out.splitlines()
    assert last == f"{target}: {package} not installed: pip install '.[export]' in a checkout of edge-pipeline"
    assert sum("ready" in line for line in table) == 2
    assert sum("not installed" in line for line in table) == 1


def test_it_is_shown_on_a_device_without_the_workbench() -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'torchao', 'executorch', 'coremltools', 'litert_torch'): sys.modules[name] = None\n"
        "from pipeline.cli import main; main()"
    )
    command = [sys.executable, "-c", code, "targets", "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert all("torch" in row["missing"] and "pip install" in row["missing"] for row in json.loads(ended.stdout))


def test_choosing_is_forgiving_of_case_and_strict_of_names() -> None:
    """The words of ``--target`` and ``--precision``."""
    from pipeline.errors import BadInput

    assert [t.name for t in targets.choose_targets(["ALL"])] == ["coreml", "executorch", "tflite"]
    assert [t.name for t in targets.choose_targets(["tflite, all"])] == ["tflite", "coreml", "executorch"]
    files, _ = targets.plan(targets.choose_targets(["PTE"]), ["INT8, fp32"])
    assert [(target.name, precision) for target, precision in files] == [("executorch", "fp32"), ("executorch", "int8")]
    for texts in (["all,coreml2"], ["tflite", "x"]):
        with pytest.raises(BadInput, match="Unknown target"):
            targets.choose_targets(texts)
    for texts in ([""], [","], [" ", ","]):
        with pytest.raises(BadInput, match="No precision given"):
            targets.plan(targets.choose_targets(["all"]), texts)
