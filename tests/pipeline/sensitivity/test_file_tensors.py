"""The tensors inside the built-in checkpoint's real int8 ``.tflite``."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edge_apps.runtime.content import Content
from edge_apps.runtime.manifest import Bundle
from edge_apps.runtime.runner import open_runner
from pipeline.bundles.reopen import rebuild
from pipeline.data import open_data
from pipeline.data.reading import load_all
from pipeline.data.subset import Subset
from pipeline.metrics.sqnr import sqnr_db
from pipeline.quantization.one_by_one import OneByOne
from pipeline.sensitivity import file_tensors
from pipeline.sensitivity.file_tensors import _OpenedUp, _Sums, compare_tensors


@pytest.fixture(scope="module")
def walk(demo_bundle: Bundle) -> OneByOne:
    rebuilt = rebuild(demo_bundle)
    assert rebuilt is not None
    return OneByOne(rebuilt.scaled_graph(), rebuilt.quantized_graph, rebuilt.ranges)


@pytest.fixture(scope="module")
def pixels(demo_bundle: Bundle) -> Any:
    images = open_data("digits", "calibration")
    return load_all(Subset(images, range(0, 250, 7)), demo_bundle.manifest.preprocess).images  # 36


def test_every_tensor_is_found_and_the_last_is_the_logits(demo_bundle: Bundle, walk: OneByOne, pixels: Any) -> None:
    about, found = compare_tensors(demo_bundle, walk, pixels)
    assert about.reason is None
    assert (about.matched, about.operators) == (len(walk.operators), len(walk.operators))
    assert (about.images, about.path) == (36, "mobilenet_v2-int8.tflite")
    assert set(found) == set(walk.operators)
    assert all(5 < decibels < 80 for decibels in found.values())
    # What the runner says of the file, against the float logits, by the other implementation of the measure.
    runner = open_runner(Content.read(demo_bundle.root / "mobilenet_v2-int8.tflite"))
    answered = runner.run(pixels)
    floating = []
    for at in range(0, len(pixels), walk.batch):
        walk.see(_batch(pixels[at : at + walk.batch]))
        floating.append(walk.logits())
    assert found[walk.operators[-1]] == pytest.approx(sqnr_db(np.concatenate(floating), answered), abs=0.01)


def _batch(pixels: Any) -> Any:
    import torch

    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float()


def test_what_is_not_surely_the_same_is_not_matched(demo_bundle: Bundle, walk: OneByOne) -> None:
    opened = _OpenedUp(Content.read(demo_bundle.root / "mobilenet_v2-int8.tflite"))
    whole = opened.match(walk.operators)
    first, second, *rest = walk.operators
    assert first.weight_steps is not None
    changed = first.weight_steps.copy()
    changed.flat[0] += 1 if changed.flat[0] < 127 else -1
    moved = second.qparams._replace(zero_point=second.qparams.zero_point - 1)
    others = opened.match((replace(first, weight_steps=changed), replace(second, qparams=moved), *rest))
    assert set(others) == set(rest)
    assert all(others[operator] == whole[operator] for operator in rest)
    twice = opened.match((*walk.operators, replace(rest[0])))
    assert rest[0] not in twice
    assert len(twice) == len(whole) - 1
    # The order of the weights is the format's own affair.
    turned = replace(first, weight_steps=first.weight_steps.transpose(0, 2, 3, 1))
    assert opened.match((turned,)) == {turned: whole[first]}


def test_a_file_that_computes_something_else_when_opened_up(
    demo_bundle: Bundle, walk: OneByOne, pixels: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_OpenedUp, "run", lambda _self, _picture: np.zeros(10, np.float32))
    about, found = compare_tensors(demo_bundle, walk, pixels[:2])
    assert found == {}
    assert about.reason == "'mobilenet_v2-int8.tflite' computes something else when its tensors are handed out."


def test_no_such_file_and_no_runtime(
    demo_bundle: Bundle, walk: OneByOne, pixels: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = tuple(file for file in demo_bundle.manifest.files if not file.path.endswith(".tflite"))
    without = Bundle(Path(demo_bundle.root), msgspec.structs.replace(demo_bundle.manifest, files=files, exported=()))
    about, found = compare_tensors(without, walk, pixels)
    assert (about.reason, found) == (
        "The bundle has no int8 .tflite, the one kind of file whose tensors can be read.",
        {},
    )

    def missing(_content: Content) -> Any:
        raise file_tensors.MissingExtra("Running .tflite needs LiteRT.")

    monkeypatch.setattr(file_tensors, "open_runner", missing)
    assert compare_tensors(demo_bundle, walk, pixels)[0].reason == "Running .tflite needs LiteRT."


@pytest.mark.parametrize("count", [1, 40])
@pytest.mark.parametrize("shape", [(5,), (3, 4, 4), (6, 1, 1)])
def test_one_by_one_is_all_at_once(shape: tuple[int, ...], count: int) -> None:
    chance = np.random.default_rng(0)
    reference = chance.normal(3, 1, (count, *shape)).astype(np.float32)
    measured = (reference + chance.normal(0.2, 0.1, reference.shape)).astype(np.float32)
    sums = _Sums()
    for one, other in zip(reference, measured, strict=True):
        sums.add(one, np.squeeze(other))
    assert sums.comparable
    assert sums.decibels() == pytest.approx(
        sqnr_db(reference.reshape(count, -1), measured.reshape(count, -1)), abs=1e-6
    )


def test_sums_of_what_has_no_noise_no_signal_or_another_shape() -> None:
    same, still, other = _Sums(), _Sums(), _Sums()
    for value in range(4):
        same.add(np.full(3, value, np.float32), np.full(3, value, np.float32))
        still.add(np.ones(3, np.float32), np.full(3, value, np.float32))
    other.add(np.ones((2, 3), np.float32), np.ones((3, 2), np.float32))
    assert same.decibels() == math.inf
    assert still.decibels() == -math.inf
    assert not other.comparable
