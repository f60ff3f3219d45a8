"""A bundle's sensitivity, as numbers, as a table and as a picture."""

from __future__ import annotations

import json
import math
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from calibration.recipe import Recipe
from edge_apps.console import print_parts
from edge_apps.runtime.manifest import Bundle
from pipeline.checkpoints.load import load
from pipeline.data import open_data
from pipeline.data.reading import load_all
from pipeline.errors import BadInput
from pipeline.exporting.job import ExportJob
from pipeline.exporting.write import build
from pipeline.metrics.sqnr import sqnr_db
from pipeline.quantization.captured import answers, split
from pipeline.sensitivity.file_tensors import FileTensors
from pipeline.sensitivity.measure import (
    FORMAT,
    OperatorResult,
    Sensitivity,
    WorstHit,
    measure,
    most_damaged,
    open_int8,
    worst_hit,
)
from pipeline.sensitivity.plot import _figure, draw
from pipeline.sensitivity.show import show_sensitivity


@pytest.fixture
def bundle(small_family: Any, sure: Any, fake_family: Any, fake_target: Any, tmp_path: Path) -> Bundle:  # noqa: ARG001
    """An int8 file that nothing can look into, and all that it was made of; the last layer stays in float."""
    images = open_data(str(sure.draw(0, 20)), "calibration")
    recipe = Recipe(images=40, observer="minmax", float_layers=("features.1.conv.2",))
    made = ExportJob(load(sure.checkpoint), [(fake_target(), "int8")], images, recipe, tmp_path / "b")
    return build(made)


def test_against_graphs_run_here(bundle: Bundle, sure: Any) -> None:
    rebuilt = open_int8(bundle.root)
    images = open_data(str(sure.draw(1, 60)), "test")
    seen: list[int] = []
    result = measure(rebuilt, images, 7, seen.append)
    assert sum(seen) == result.images == 120
    assert result.seed == 7
    batches = split(load_all(images, bundle.manifest.preprocess).images, 16)
    floating, int8 = answers(rebuilt.float_graph(), batches), answers(rebuilt.simulator(), batches)
    assert result.int8_sqnr_db == pytest.approx(sqnr_db(floating, int8), abs=0.01)
    assert result.worst.images == 30
    same = floating.argmax(1) == int8.argmax(1)
    assert result.int8_agreement == pytest.approx(same.mean())
    words = {file.path: file.comparison.word for file in bundle.models()}
    assert result.verdicts == words
    assert set(words.values()) <= {"good", "check", "bad"}
    labels = np.asarray(images.labels)
    relative = [np.linalg.norm(b - a) / np.linalg.norm(a) for a, b in zip(floating, int8, strict=True)]
    worst = np.argsort(relative)[-30:]
    assert result.worst.float_top1 == 1 == (floating.argmax(1) == labels)[worst].mean()
    assert result.worst.int8_top1 == pytest.approx((int8.argmax(1) == labels)[worst].mean())
    assert [(o.path, o.operator, o.weighted) for o in result.operators] == [
        ("features.0.0", "conv2d", True),
        ("features.1.conv.0.0", "conv2d", True),
        ("features.1.conv.1.0", "conv2d", True),
        ("features.1", "add", False),
        ("pool", "mean", False),
        ("classifier.0", "linear", True),
    ]
    assert all(o.sqnr_db > result.int8_sqnr_db for o in result.operators)
    assert all(o.file_sqnr_db is None for o in result.operators)
    assert result.file.reason == "The bundle has no int8 .tflite, the one kind of file whose tensors can be read."
    damages = [o.sqnr_db for o in result.by_damage()]
    assert damages == sorted(damages)
    assert json.loads(result.to_json())["operators"][0]["path"] == "features.0.0"


def test_repairs_are_part_of_the_int8_network(
    small_family: Any,  # noqa: ARG001
    sure: Any,
    fake_family: Any,  # noqa: ARG001
    fake_target: Any,
    tmp_path: Path,
) -> None:
    images = open_data(str(sure.draw(0, 20)), "calibration")
    recipe = Recipe(images=40, observer="minmax", repairs=("equalize", "adaround", "bias"))
    job = ExportJob(load(sure.checkpoint), [(fake_target(), "int8")], images, recipe, tmp_path / "b")
    rebuilt = open_int8(build(job).root)
    result = measure(rebuilt, images, 0, lambda _: None)
    batches = split(load_all(images, rebuilt.bundle.manifest.preprocess).images, 16)
    floating, scaled = answers(rebuilt.float_graph(), batches), answers(rebuilt.scaled_graph(), batches)
    assert sqnr_db(floating, scaled) > 100
    assert result.int8_sqnr_db == pytest.approx(sqnr_db(floating, answers(rebuilt.simulator(), batches)), abs=0.01)
    assert len(result.operators) == 7


def test_the_most_damaged_layer_is_the_first_of_the_table(bundle: Bundle, sure: Any) -> None:
    """Of the layers: a gate's sentence names what can be kept in float."""
    images = open_data(str(sure.draw(2, 32)), "test")
    result = measure(open_int8(bundle.root), images, 0, lambda _: None)
    first = next(operator for operator in result.by_damage() if operator.weighted)
    path, decibels = most_damaged(bundle, images) or ("", 0.0)
    assert path == first.path
    assert decibels == pytest.approx(first.sqnr_db, abs=0.05)  # the same pictures in another order and other batches


def test_other_classes_and_no_int8(bundle: Bundle, sure: Any, fake_target: Any, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="Unknown folders: 0, 1"):
        measure(open_int8(bundle.root), open_data("digits", "test"), 0, lambda _: None)
    images = open_data(str(sure.draw(0, 20)), "calibration")
    floating = build(
        ExportJob(load(sure.checkpoint), [(fake_target(), "fp32")], images, Recipe(images=8), tmp_path / "f")
    )
    with pytest.raises(BadInput, match="has no int8 file: export one with `precision=int8`"):
        open_int8(floating.root)
    assert most_damaged(floating, images) is None


def test_worst_hit_is_a_quarter_rounded_up_relative_to_the_float_logits() -> None:
    floating = np.array([[1, 0], [100, 0], [1, 1], [0, 0], [2, 0]], np.float32)
    int8 = floating + np.array([[0.5, 0], [1, 0], [0, 0], [0, 0], [0, 0.1]], np.float32)
    assert worst_hit(floating, int8).tolist() == [0, 4]
    assert worst_hit(floating[:1], int8[:1]).tolist() == [0]
    assert worst_hit(floating, floating).tolist() == [0, 1]


def made_up(operators: int, file: bool = True) -> Sensitivity:
    """As of a network of so many operators; the worst are spread, crowded at the beginning, and at the end."""
    chance = np.random.default_rng(operators)
    decibels = 45 + chance.normal(0, 5, operators)
    for worst in {0, 1, 3, operators // 2, operators - 1} & set(range(operators)):
        decibels[worst] = 12 + worst / operators
    kinds = [("conv2d", True), ("conv2d", True), ("add", False)]
    return Sensitivity(
        format=FORMAT,
        bundle="mobilenet-bundle",
        model="mobilenet_v2",
        data="some/where/test.tar",
        data_sha256="0" * 64,
        images=512,
        seed=0,
        float_layers=("classifier.1",),
        int8_sqnr_db=20.5,
        int8_agreement=0.875,
        verdicts={"m.tflite": "check", "m.pte": "good"},
        worst=WorstHit(images=128, float_top1=0.75, int8_top1=0.5),
        file=FileTensors(path="m.tflite", runtime="litert 2", images=64, matched=operators - 1, operators=operators)
        if file
        else FileTensors(reason="The bundle has no int8 .tflite."),
        operators=tuple(
            OperatorResult(
                path=f"features.{i}.block.conv.0",
                operator=kinds[i % 3][0],
                weighted=kinds[i % 3][1],
                sqnr_db=round(float(decibels[i]), 2) if i != 5 else 200.0,
                worst_top1=0.7,
                file_sqnr_db=30 - i / 10 if file and i != 2 else None,
            )
            for i in range(operators)
        ),
    )


@pytest.mark.parametrize("operators", [1, 4, 64, 160])
@pytest.mark.parametrize("file", [True, False])
def test_names_in_the_plot_stand_apart(operators: int, file: bool) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = _figure(made_up(operators, file))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    (axes,) = figure.axes
    names = [text for text in axes.texts if "(" in text.get_text()]
    assert len(names) == min(5, operators)
    worst = [operator.path for operator in made_up(operators).by_damage()[:5]]
    assert sorted(text.get_text().split(" ")[0] for text in names) == sorted(worst)
    # Without its line: where the letters are.
    boxes = [text.get_bbox_patch().get_window_extent() for text in names]
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[i + 1 :])
        assert 0 <= box.x0 < box.x1 <= figure.bbox.x1
        assert axes.get_window_extent().y0 <= box.y0
    assert "mobilenet_v2 on 512 images of test.tar" in axes.get_title(loc="left")
    curves = [line for line in axes.lines if line.get_marker() == "x"]
    assert len(curves) == file
    # A tensor that was not found leaves a gap.
    assert not file or np.isnan(curves[0].get_ydata()).sum() == (operators > 2)


def test_plot_files(tmp_path: Path) -> None:
    result = made_up(64)
    for name in ("a.png", "b.png", "a.svg", "b.svg"):
        draw(result, tmp_path / name)
    png = (tmp_path / "a.png").read_bytes()
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", png[16:24])
    assert 1000 < width < 2800
    assert 600 < height < 1200
    assert png == (tmp_path / "b.png").read_bytes()
    svg = (tmp_path / "a.svg").read_text("utf-8")
    assert all(operator.path in svg for operator in result.by_damage()[:5])
    assert svg == (tmp_path / "b.svg").read_text("utf-8")
    assert "matplotlib.pyplot" not in sys.modules  # which would look for a display


def test_table_fits_into_80_columns() -> None:
    console = Console(width=80, record=True, file=None, highlight=False)
    result = made_up(64)
    print_parts(show_sensitivity(result), console)
    lines = console.export_text().splitlines()
    rows = [line.split() for line in lines if line.startswith("features.")]
    assert [row[0] for row in rows] == [operator.path for operator in result.by_damage()]
    assert rows[0][:5] == ["features.0.block.conv.0", "conv2d", "12.0", "70.00", "30.0"]
    assert rows[-1][2] == "equal"
    assert [row[4] for row in rows if row[0] == "features.2.block.conv.0"] == ["–"]
    assert all(len(line) <= 80 for line in lines if line.startswith(("features.", "all of", "none:")))
    text = " ".join(lines)
    assert "Kept in float by the recipe: classifier.1." in text
    assert "found for 63 of 64" in text
    assert "int8 and float agree on 88 % of the images." in text
    assert "The export's verdict on m.tflite is 'check'" in text
    assert "m.pte" not in text
    assert not math.isnan(result.int8_sqnr_db)


def test_table_without_a_file() -> None:
    console = Console(width=80, record=True, highlight=False)
    print_parts(show_sensitivity(made_up(4, file=False)), console)
    assert "in the file: not looked into. The bundle has no int8 .tflite." in console.export_text()
