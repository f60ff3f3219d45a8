"""``pipeline models`` as it is typed."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from pipeline import zoo
from pipeline.zoo.complexity import compound_scaling
from pipeline.zoo.complexity.count import count_model
from pipeline.zoo.spec import Figure

# ruff: noqa: ARG001 - the fixture that makes the zoo small is asked for, not used

Run = Callable[..., Any]
EFFICIENTNET = zoo.get("efficientnet_b0")


def one(pipeline: Run, *arguments: Any, name: str = "mobilenet_v2") -> dict[str, Any]:
    ended = pipeline("models", "--json", *arguments)
    assert (ended.status, ended.err) == (0, "")
    return next(row for row in json.loads(ended.out) if row["name"] == name)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A zoo of three, which is listed in no time."""
    known = {name: zoo.get(name) for name in ("mobilenet_v2", "shufflenet_v1", "vgg_a")}
    monkeypatch.setattr(zoo, "specs", lambda: known)


def test_every_model_is_listed(pipeline: Run) -> None:
    ended = pipeline("models")
    assert (ended.status, ended.err) == (0, "")
    lines = ended.out.splitlines()[2:]
    assert [line.split()[0] for line in lines] == list(zoo.specs())
    assert max(len(line.rstrip()) for line in lines) <= 80


def test_the_published_figures(pipeline: Run, few: None) -> None:
    row = one(pipeline)
    assert (row["input"], row["classes"], row["params"]) == (224, 1000, 3_504_872)
    assert round(row["mult_adds"] / 1e6, 1) == 300.8
    assert row["peak_activation"] == 16 * 112 * 112 * 2
    assert row["options"]["width"] == 1.0
    table = pipeline("models").out
    assert "3,504,872" in table
    assert "300.8" in table


def test_ten_classes(pipeline: Run, few: None) -> None:
    row = one(pipeline, "--classes", 10)
    assert (row["params"], row["size_mb"]) == (2_236_682, 8.947)
    table = pipeline("models", "--classes", 10).out
    assert "2,236,682" in table


def test_options_are_of_the_models_that_have_them(pipeline: Run, few: None) -> None:
    ended = pipeline("models", "--json", "--groups", 8, "--width", 0.5)
    assert ended.status == 0
    rows = {row["name"]: row["options"] for row in json.loads(ended.out)}
    assert [rows[name]["width"] for name in ("mobilenet_v2", "shufflenet_v1", "vgg_a")] == [0.5, 0.5, 0.5]
    assert rows["shufflenet_v1"]["groups"] == 8
    assert "groups" not in rows["mobilenet_v2"]
    assert sorted(ended.err.splitlines()) == [
        "--groups 8: shufflenet_v1",
        "--width 0.5: mobilenet_v2, shufflenet_v1, vgg_a",
    ]


def test_a_model_that_cannot_be_so_is_left_out_with_the_reason(pipeline: Run, few: None) -> None:
    ended = pipeline("models", "--input", 64)
    assert ended.status == 0
    assert "Left out, vgg_a: Input size is 64; 'vgg_a' takes " in ended.err
    assert "vgg_a" not in ended.out
    assert "mobilenet_v2" in ended.out
    assert "Input size is 31; 'mobilenet_v2' takes 32 to 2048" in pipeline("models", "--input", 31).error()


def test_one_model_is_explained(pipeline: Run) -> None:
    ended = pipeline("models", "mobilenet_v2")
    assert (ended.status, ended.err) == (0, "")
    spec = zoo.get("mobilenet_v2")
    assert ended.out.startswith("MobileNetV2  (mobilenet_v2")
    words = " ".join(ended.out.split())
    assert spec.introduced in words
    assert spec.paper in words
    for option in spec.options.values():
        assert option.meaning in words
    for said in ("3,504,872 3.4 M", "300.8 M 300 M", "2,236,682 2.2 M", "parameters 3,504,872 (14.019 MB in float32)"):
        assert said in words
    assert "features.8…10 Inverted Residual 64×14×14 162,816 4.6 30.93 10.3" in words
    assert "1×1 conv 34 2,124,672 61.2 267.94 89.1" in words


def test_every_layer_of_one_model(pipeline: Run) -> None:
    words = " ".join(pipeline("models", "mobilenet_v2", "--layers").out.split())
    assert "features.1.conv.0.0 3×3 depthwise conv 32×112×112 288 0.0 3.61 1.2" in words
    assert "classifier.1 linear 1000 1,281,000 36.5 1.28 0.4" in words
    assert "batch norms 34,112 1.0" in words


def test_one_model_as_json_adds_up(pipeline: Run) -> None:
    ended = pipeline("models", "mobilenet_v2", "--width", 0.5, "--input", 160, "--classes", 7, "--json")
    assert (ended.status, ended.err) == (0, "")
    document = json.loads(ended.out)
    assert (document["input"], document["classes"], document["options"]["width"]) == (160, 7, 0.5)
    assert document["about_options"]["width"]["default"] == 1.0
    assert sum(layer["mult_adds"] for layer in document["layers"]) == document["mult_adds"]
    assert sum(unit["mult_adds"] for unit in document["units"]) == document["mult_adds"]
    assert sum(unit["params"] for unit in document["units"]) == document["params"]
    assert sum(kind["mult_adds"] for kind in document["by_kind"].values()) == document["mult_adds"]
    assert sum(layer["mult_adds_share"] for layer in document["layers"]) == pytest.approx(1)
    assert document["layers"][0]["output"] == [16, 80, 80]
    assert document["figures"][0]["published"] == "3.4 M"


def test_an_alias_is_the_model(pipeline: Run) -> None:
    spec = next(spec for spec in zoo.specs().values() if spec.aliases)
    ended = pipeline("models", spec.aliases[0], "--json")
    assert json.loads(ended.out)["name"] == spec.name


def test_units_add_up_in_every_model() -> None:
    """Whatever a network is made of, its units hold all its parameters and mult-adds."""
    for spec in zoo.specs().values():
        cost = count_model(spec)
        assert sum(unit.params for unit in cost.units) == cost.params, spec.name
        assert sum(unit.mult_adds for unit in cost.units) == cost.mult_adds, spec.name


def test_the_whole_check(pipeline: Run) -> None:
    ended = pipeline("models", "--check", "--json")
    assert (ended.status, ended.err) == (0, "")
    document = json.loads(ended.out)
    assert document["faults"] == []
    assert {row["subject"] for row in document["figures"]} == set(zoo.specs())
    assert [row["first"] for row in document["peak_activations"]["rows"]][2] == 802_816
    assert document["comparison"][0]["top1"] == "70.6 %"
    assert any(row["counted"] == "118,784" for row in document["claims"])


def test_the_check_of_one_model(pipeline: Run) -> None:
    ended = pipeline("models", "mobilenet_v2", "--check")
    assert (ended.status, ended.err) == (0, "")
    assert "3,504,872" in ended.out
    assert "counted" in ended.out
    assert "Peak activation" not in ended.out


def test_a_figure_that_does_not_hold_fails(pipeline: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = Figure(params=3_504_873, published_params="3.5 M", source="a typo")
    spec = dataclasses.replace(zoo.get("mobilenet_v2"), figures=(wrong,))
    monkeypatch.setitem(zoo.specs(), "mobilenet_v2", spec)
    ended = pipeline("models", "mobilenet_v2", "--check")
    assert ended.status == 1
    assert "FAILS: counts 3,504,872, recorded 3,504,873" in " ".join(ended.out.split())
    said = "1 of the figures do not hold: mobilenet_v2 params: counts 3,504,872, recorded 3,504,873."
    assert ended.err == f"Error: {said}\n"
    ended = pipeline("models", "mobilenet_v2", "--check", "--json")
    assert ended.status == 1
    assert json.loads(ended.out)["faults"] == ["mobilenet_v2 params: counts 3,504,872, recorded 3,504,873"]


def test_compound_scaling(pipeline: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    points = [compound_scaling.PUBLISHED, compound_scaling.Scaling(1.0, 1.0, 1.4)]
    assert set(points) <= set(compound_scaling.feasible())
    monkeypatch.setattr(compound_scaling, "feasible", lambda: points)
    document = json.loads(pipeline("models", "efficientnet_b0", "--scaling", "--json").out)
    assert document["base"]["params"] == 5_288_548
    assert [(row["depth"], row["width"], row["resolution"]) for row in document["feasible"]] == [
        (1.2, 1.1, 1.15),
        (1.0, 1.0, 1.4),
    ]
    assert [row["published"] for row in document["feasible"]] == [True, False]
    assert document["feasible"][1]["params"] == 5_288_548
    words = " ".join(pipeline("models", "efficientnet_b0", "--scaling").out.split())
    assert "published 1.2 1.1 1.15 1.920" in words
    assert "base 5,288,548 385.8" in words


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--classes", "0"], "--classes"),
        (["--classes", "x"], "--classes"),
        (["--input", "0"], "Input size is 0"),
        (["--input", "2049"], "Input size is 2049"),
        (["--width", "9"], "Option --width is 9.0; allowed 0.1 to 4.0"),
        (["--width", "nan"], "Option --width is nan"),
        (["--groups", "5"], "Option --groups is 5; allowed 1, 2, 3, 4, 8"),
        (["--batch-norm", "--input", "16"], "Input size is 16"),
        (["--magic"], "No such option"),
        (["mobilenet_v22"], "Unknown model 'mobilenet_v22'. Did you mean 'mobilenet_v2'?"),
        (["mobilenet_v2", "vgg_a"], "unexpected extra argument"),
        (["net.py:good"], "'net.py:good' is a network of your own: only models of the zoo are listed"),
        (["mine.pt2"], "'mine.pt2' is a network of your own: only models of the zoo are listed"),
        (["mobilenet_v2", "--width", "9"], "Option --width is 9.0; allowed 0.1 to 4.0"),
        (["mobilenet_v2", "--input", "31"], "Input size is 31; 'mobilenet_v2' takes 32 to 2048"),
        (["mobilenet_v2", "--groups", "3"], "Model 'mobilenet_v2' has no option 'groups'. Known: width"),
        (["mobilenet_v2", "--batch-norm"], "Model 'mobilenet_v2' has no option 'batch_norm'. Known: width"),
        (["--layers"], "--layers is about one model: pipeline models NAME"),
        (["--scaling"], "--scaling is about one model"),
        (["mobilenet_v2", "--scaling"], "'mobilenet_v2' is not where compound scaling starts; 'efficientnet_b0' is"),
        (["mobilenet_v2", "--layers", "--check"], "--layers, --scaling and --check are different questions"),
        (["--check", "--width", "0.5"], "--check has its own configurations: leave options, --classes and --input out"),
        (["efficientnet_b0", "--scaling", "--classes", "5"], "--scaling has its own configurations"),
    ],
)
def test_bad_usage(pipeline: Run, few: None, monkeypatch: pytest.MonkeyPatch, arguments: list[str], says: str) -> None:
    monkeypatch.setitem(zoo.specs(), "efficientnet_b0", EFFICIENTNET)
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
    assert "List every network and what it costs" in ended.stdout


def test_an_unknown_verb_names_the_nearest(pipeline: Run) -> None:
    assert "No command 'modles'. Did you mean 'models'? Known: benchmark, bundle, " in pipeline("modles").error()
