"""LiteRT on real files: by XNNPACK, and by its own kernels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_apps.runtime.content import Content
from edge_apps.runtime.manifest import Bundle
from edge_apps.runtime.runner import Runner, open_runner

DELEGATE = "DELEGATE"
"""What LiteRT lists as an operator where XNNPACK took a part of the graph."""


def tflite(bundle: Bundle, precision: str) -> Path:
    return next(bundle.root / f.path for f in bundle.models() if (f.target, f.precision) == ("tflite", precision))


def operators(runner: Runner) -> set[str]:
    return {each["op_name"] for each in runner._interpreter._get_ops_details()}  # type: ignore[attr-defined]


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_without_xnnpack_its_own_kernels_compute(demo_bundle: Bundle, precision: str) -> None:
    path = tflite(demo_bundle, precision)
    by_xnnpack, alone = open_runner(Content.read(path)), open_runner(Content.read(path), xnnpack=False)
    assert alone.runtime == f"{by_xnnpack.runtime} without XNNPACK", "a log tells them apart"
    assert DELEGATE in operators(by_xnnpack)
    assert DELEGATE not in operators(alone)
    shape = (4, alone.manifest.preprocess.height, alone.manifest.preprocess.width, 3)
    pictures = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    ours, theirs = alone.run(pictures), by_xnnpack.run(pictures)
    # Requantization that rounds otherwise is a step or a few in an int8 logit; wrong weights would be dozens.
    assert np.abs(ours - theirs).max() <= (1e-4 if precision == "fp32" else 0.1) * np.ptp(theirs)
    assert (ours.argmax(1) == theirs.argmax(1)).all()
