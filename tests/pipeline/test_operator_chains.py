"""Random chains of three operators: rewritten they compute the same, and in int8 nearly so."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from operator_chains import PREPROCESS, chain, images

from calibration.quantize import quantize
from calibration.recipe import Recipe
from calibration.simulate import Simulator
from edge_apps.chatter import hushed
from pipeline.accuracy.sqnr import sqnr_db
from pipeline.capture import ImageInput, capture_images, graph_of
from pipeline.networks.prepare import prepare
from pipeline.targets.base import Source

CHAINS, AT_ONCE = 300, 25
LEAST_FLOAT_DB, LEAST_INT8_DB = 80, 8


def compared(network: torch.nn.Module, calibrated: Callable[..., Source]) -> tuple[float, float]:
    """SQNR against the network of its rewritten form, and of that form's int8 simulation."""
    pixels = images(16)
    prepared = prepare(network, PREPROCESS).network
    with torch.no_grad():
        expected = ImageInput(network, PREPROCESS)(pixels).numpy()
        answered = ImageInput(prepared, PREPROCESS)(pixels).numpy()
    source = calibrated(prepared, PREPROCESS, pixels, Recipe())
    graph = graph_of(capture_images(ImageInput(prepared, PREPROCESS).eval(), PREPROCESS, prepared.batch))
    with hushed():
        int8, _ = quantize(graph, source.required_ranges, fold_weights=True)
    simulated = np.concatenate([Simulator(int8)(part).numpy() for part in pixels.split(prepared.batch or 16)])
    return sqnr_db(expected, answered), sqnr_db(expected, simulated)


@pytest.mark.parametrize("first", range(0, CHAINS, AT_ONCE))
def test_a_chain_computes_the_same_in_float_and_nearly_in_int8(first: int, calibrated: Callable[..., Source]) -> None:
    bad = []
    for seed in range(first, first + AT_ONCE):
        names, network = chain(seed)
        in_float, in_int8 = compared(network, calibrated)
        if in_float < LEAST_FLOAT_DB or in_int8 < LEAST_INT8_DB:
            bad.append((seed, names, round(in_float, 1), round(in_int8, 1)))
    assert not bad
