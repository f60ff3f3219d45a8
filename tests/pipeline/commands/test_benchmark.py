"""``pipeline benchmark`` as it is typed, on the small network's real files."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_apps.runtime.manifest import Bundle
from pipeline.zoo.spec import ModelSpec

Run = Callable[..., Any]


def test_a_model_is_exported_measured_and_kept(
    pipeline: Run, small_family: ModelSpec, small_pictures: Path, tmp_path: Path
) -> None:
    out, page, data = tmp_path / "kept", tmp_path / "table.md", tmp_path / "data"
    for part in ("train", "val"):
        shutil.copytree(small_pictures, data / part)
    words = ("benchmark", small_family.name, "--data", data, "--seconds", 0.05, "--out", out)
    ended = pipeline(*words, "--markdown", page)
    assert ended.status == 0, ended.err
    assert ended.err.count("is divided into 'train', 'val': reading") == 1  # opened once, and said once
    measured = json.loads((out / "small.json").read_text())
    assert (measured["model"], measured["input"], measured["data"]) == ("small", 32, str(data))
    files = {(file["target"], file["precision"]): file for file in measured["files"]}
    assert len(files) == 6
    for (target, precision), file in files.items():
        if target == "coreml" and file["p50_ms"] is None:
            assert "macOS" in file["comparison"]["reason"]
            continue
        assert file["runs"] >= 20
        assert file["p50_ms"] > 0
        assert file["delegated"]["share"] == 1
        compared = file["comparison"]
        assert compared["sqnr_float_db" if precision == "fp32" else "sqnr_graph_db"] > 40
        assert compared["word"] in ("good", "check")
    assert page.read_text().count("\n| ") >= 4
    assert f"pipeline benchmark {small_family.name}" in page.read_text()
    assert "was measured with other options" in pipeline(*words, "--input", 30).error()
    assert "was measured with other options" in pipeline(*words, "--threads", 2).error()
    for other in ({"version": "0.0.9"}, {"device": measured["device"] | {"cpu": "Z80"}}):
        (out / "small.json").write_text(json.dumps(measured | other))
        assert "choose another --out" in pipeline(*words).error()
    (out / "small.json").write_text(json.dumps(measured))
    before = (out / "small.json").stat().st_mtime_ns
    again = pipeline(*words)
    assert "small 32" in again.out
    assert (out / "small.json").stat().st_mtime_ns == before


def test_a_part_of_a_benchmark_says_nothing_of_the_data_again(
    pipeline: Run, small_family: ModelSpec, small_pictures: Path, tmp_path: Path
) -> None:
    for part in ("train", "val"):
        shutil.copytree(small_pictures, tmp_path / part)
    words = ("benchmark", small_family.name, "--data", tmp_path, "--seconds", 0.01, "--json")
    ended = pipeline(*words, "--part")
    assert ended.status == 0, ended.err
    assert "is divided into" not in ended.err
    assert "--part" not in pipeline("benchmark", "--help").out


def test_a_bundle_is_measured_as_it_is(pipeline: Run, demo_bundle: Bundle) -> None:
    ended = pipeline("benchmark", demo_bundle.root, "--seconds", 0.05, "--json")
    assert ended.status == 0, ended.err
    (measured,) = json.loads(ended.out)
    assert (measured["model"], measured["data"], measured["params"]) == ("mobilenet_v2", None, 2_236_682)
    assert {file["target"] for file in measured["files"] if file["p50_ms"]} >= {"executorch", "tflite"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "Nothing to measure: name a bundle or a model"),
        (("mobilnet_v2",), "Did you mean 'mobilenet_v2'?"),
        (("mobilenet_v2", "--input", 8), "Input size is 8"),
        (("mobilenet_v2", "--groups", 8), "has no option 'groups'"),
        (("mobilenet_v2", "--data", "nowhere"), "nowhere"),
        (("mobilenet_v2", "--seconds", 0), "--seconds"),
        (("net.py:build",), "A network of your own is measured as the bundle"),
    ],
)
def test_bad_usage(pipeline: Run, words: tuple[object, ...], says: str) -> None:
    assert says in pipeline("benchmark", *words).error()


def test_a_bundle_has_its_own_input(pipeline: Run, demo_bundle: Bundle) -> None:
    assert "leave them out" in pipeline("benchmark", demo_bundle.root, "--input", 64).error()


def test_what_is_no_measurement_is_not_taken_for_one(pipeline: Run, tmp_path: Path) -> None:
    (tmp_path / "mobilenet_v2.json").write_text("{}")
    said = pipeline("benchmark", "mobilenet_v2", "--out", tmp_path).error()
    assert "is no benchmark" in said
