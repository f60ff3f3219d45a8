"""A bundle opened again: its graphs are those that its files came from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from calibration.recipe import Recipe
from edge_apps.runtime.content import Content
from edge_apps.runtime.manifest import Bundle, load_bundle
from edge_apps.runtime.runner import open_runner
from pipeline import targets
from pipeline.bundles.reopen import checkpoint_of, rebuild
from pipeline.errors import ChangedFile
from pipeline.exporting.job import ExportJob
from pipeline.exporting.write import build
from pipeline.quantization.captured import answers, split


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)


def int8_logits(bundle: Bundle, pictures: np.ndarray) -> np.ndarray:
    (file,) = bundle.models()
    runner = open_runner(Content.read(bundle.read(file).path))
    try:
        return runner.run(pictures)
    finally:
        runner.close()


@pytest.mark.parametrize("repairs", [(), ("equalize", "adaround", "bias")], ids=["plain", "repaired"])
def test_the_simulator_answers_as_the_file_does(job: ExportJob, noise: np.ndarray, repairs: tuple[Any, ...]) -> None:
    recipe = Recipe(images=32, observer="minmax", repairs=repairs, weights="per-tensor")
    bundle = build(replace(job, quantization=recipe))
    rebuilt = rebuild(load_bundle(bundle.root))
    assert rebuilt is not None
    assert np.array_equal(answers(rebuilt.simulator(), split(noise, 8)), int8_logits(bundle, noise))
    assert [effect.repairs for effect in rebuilt.ranges.effects] == [repairs[:i] for i in range(len(repairs) + 1)][
        : 0 if not repairs else None
    ]


def test_the_float_graph_is_the_checkpoint(job: ExportJob, noise: np.ndarray) -> None:
    bundle = build(job)
    rebuilt = rebuild(bundle)
    assert rebuilt is not None
    checkpoint = checkpoint_of(bundle)
    mean, std = (
        torch.tensor(values).view(1, 3, 1, 1) for values in (checkpoint.preprocess.mean, checkpoint.preprocess.std)
    )
    with torch.no_grad():
        expected = checkpoint.network()((torch.from_numpy(noise).permute(0, 3, 1, 2) / 255 - mean) / std).numpy()
    np.testing.assert_allclose(answers(rebuilt.float_graph(), split(noise, 8)), expected, rtol=1e-4, atol=1e-5)


def test_without_int8_files_there_is_nothing_quantized(job: ExportJob) -> None:
    assert rebuild(build(replace(job, files=[(targets.targets()["tflite"], "fp32")]))) is None


@pytest.mark.parametrize("name", ["ranges.json", "float/program.pt2"])
def test_what_was_changed_is_not_opened(job: ExportJob, name: str) -> None:
    bundle = build(job)
    with (bundle.root / name).open("ab") as file:
        file.write(b" ")

    def opened() -> None:
        rebuilt = rebuild(bundle)
        assert rebuilt is not None
        rebuilt.float_graph()

    with pytest.raises(ChangedFile):
        opened()
