"""``pipeline models`` as it is typed."""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from pipeline import zoo

Run = Callable[..., Any]


def one(pipeline: Run, *arguments: Any, name: str = "mobilenet_v2") -> dict[str, Any]:
    ended = pipeline("models", "--json", *arguments)
    assert (ended.status, ended.err) == (0, "")
    return next(row for row in json.loads(ended.out) if row["name"] == name)


def test_every_model_is_listed(pipeline: Run) -> None:
    ended = pipeline("models", "--json")
    assert [row["name"] for row in json.loads(ended.out)] == list(zoo.specs())
    table = pipeline("models").out
    assert all(name in table for name in zoo.specs())


def test_the_published_figures(pipeline: Run) -> None:
    row = one(pipeline)
    assert (row["input"], row["classes"], row["params"]) == (224, 1000, 3_504_872)
    assert round(row["mult_adds"] / 1e6, 1) == 300.8
    assert row["options"] == {"width": 1.0}
    table = pipeline("models").out
    assert "3,504,872" in table
    assert "300.8" in table


def test_ten_classes(pipeline: Run) -> None:
    row = one(pipeline, "--classes", 10)
    assert (row["params"], row["size_mb"]) == (2_236_682, 8.947)
    table = pipeline("models", "--classes", 10).out
    assert "2,236,682" in table
    assert "8.947" in table


def test_a_third_of_the_width_at_96(pipeline: Run) -> None:
    row = one(pipeline, "--width", 0.35, "--input", 96)
    assert (row["input"], row["params"]) == (96, 1_677_128)
    assert round(row["mult_adds"] / 1e6, 1) == 11.9


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--classes", "0"], "--classes"),
        (["--classes", "x"], "--classes"),
        (["--input", "31"], "Input size is 31; 'mobilenet_v2' takes 32 to 2048"),
        (["--input", "2049"], "Input size is 2049"),
        (["--width", "9"], "Option width is 9.0; allowed 0.1 to 4.0"),
        (["--width", "nan"], "Option width is nan"),
        (["--magic"], "No such option"),
        (["mobilenet_v2"], "unexpected extra argument"),
    ],
)
def test_bad_usage(pipeline: Run, arguments: list[str], says: str) -> None:
    assert says in pipeline("models", *arguments).error()


def test_without_torch_it_names_the_pip_command() -> None:
    code = "import sys; sys.modules['torch'] = None; from pipeline.cli import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", code, "models"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    how = "pip install '.[export]' in a checkout of edge-pipeline"
    said = f"Error: This command needs torch, which is not installed: {how}.\n"
    assert ended.stderr == said


def test_help_does_not_load_torch() -> None:
    code = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        "from pipeline.cli import main\n"
        "for arguments in (['--help'], ['models', '--help'], ['export', '--help'], ['targets']):\n"
        "    try: main(arguments)\n"
        "    except SystemExit as end: assert not end.code, arguments\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "Count parameters, mult-adds" in ended.stdout


def test_an_unknown_verb_names_the_nearest(pipeline: Run) -> None:
    assert "No command 'modles'. Did you mean 'models'? Known: calibrate, " in pipeline("modles").error()
