"""Random chains of three operators: rewritten they compute the same, and in int8 nearly so."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable

import pytest
import torch
from operator_chains import PREPROCESS, chain, images
from torch import nn

from calibration.quantize import quantize
from calibration.recipe import Recipe
from calibration.simulate import Simulator
from edge_apps.chatter import hushed
from pipeline.exporting.file_check import ARITHMETIC_DB
from pipeline.graphs.flat import FlatNetwork
from pipeline.graphs.front_ends import ImageInput, capture_images, graph_of
from pipeline.graphs.prepare import prepare
from pipeline.metrics.sqnr import sqnr_db
from pipeline.targets.base import Source

CHAINS, AT_ONCE = 300, 75
QUANTIZED = 3
"""Every third chain is quantized as well."""

LEAST_FLOAT_DB, USUAL_INT8_DB, LEAST_INT8_DB = 80, 18, -10
"""A chain of which nothing but a thousandth is left (``tanhshrink`` twice) means little in int8."""


def in_float(network: nn.Module, prepared: FlatNetwork) -> tuple[float, float]:
    """SQNR of the rewritten form against the network in float64, and of the network's own float32 arithmetic."""
    with torch.no_grad():
        own = ImageInput(network, PREPROCESS)(images(16)).numpy()
        answered = ImageInput(prepared, PREPROCESS)(images(16)).numpy()
        exact = ImageInput(copy.deepcopy(network), PREPROCESS).double()(images(16).double()).numpy()
    return sqnr_db(exact, answered), sqnr_db(exact, own)


def in_int8(network: nn.Module, source: Source) -> float:
    """SQNR of the int8 simulation against the network."""
    graph = graph_of(capture_images(ImageInput(source.network, PREPROCESS).eval(), PREPROCESS))
    with hushed():
        int8, _ = quantize(graph, source.required_ranges, fold_weights=True)
    with torch.no_grad():
        return sqnr_db(ImageInput(network, PREPROCESS)(images(16)).numpy(), Simulator(int8)(images(16)).numpy())


@pytest.mark.parametrize("first", range(0, CHAINS, AT_ONCE))
def test_a_chain_computes_the_same_in_float_and_nearly_in_int8(first: int, calibrated: Callable[..., Source]) -> None:
    bad, quantized = [], []
    for seed in range(first, first + AT_ONCE):
        names, network = chain(seed)
        prepared = prepare(network, PREPROCESS).network
        found, own = in_float(network, prepared)
        if found < LEAST_FLOAT_DB and found < own - ARITHMETIC_DB:
            bad.append((seed, names, "fp32", found))
        if seed % QUANTIZED == 0:
            quantized.append(in_int8(network, calibrated(prepared, PREPROCESS, images(16), Recipe())))
            if quantized[-1] < LEAST_INT8_DB:
                bad.append((seed, names, "int8", quantized[-1]))
    assert not bad
    assert statistics.median(quantized) >= USUAL_INT8_DB
