"""Networks of operators that users brought, as device files: alone, in pairs, and in random chains of three."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from operator_chains import OPERATORS, PREPROCESS, Chain, chain, images
from torch import nn

from calibration.quantize import quantize
from calibration.recipe import Recipe
from calibration.simulate import Simulator
from edge_apps.chatter import hushed
from edge_apps.runtime.content import Content
from edge_apps.runtime.precisions import Precision
from edge_apps.runtime.runner import open_runner
from pipeline import targets
from pipeline.exporting.file_check import ARITHMETIC_DB
from pipeline.graphs.front_ends import ImageInput, capture_images, graph_of
from pipeline.graphs.prepare import prepare
from pipeline.metrics.sqnr import sqnr_db
from pipeline.targets.base import Delegation, Source

LABELS = ("a", "b", "c")
LEAST_FP32_DB, LEAST_INT8_DB = 60, 40

KERNELS = {
    "where", "masked", "log-softmax", "hardshrink", "threshold", "softplus of low threshold", "largest channel",
}  # fmt: skip
"""They have no form that the delegates take: a kernel of the runtime computes them between two partitions."""


class File:
    """One written file: its logits of the images, and what its delegate took."""

    def __init__(self, path: Path, target: str) -> None:
        with hushed():
            found = targets.targets()[target].census(Content.read(path)).delegation
        assert found is not None
        self.delegation: Delegation = found
        runner = open_runner(Content.read(path))
        try:
            self.logits = runner.run(images().permute(0, 2, 3, 1).numpy().astype(np.uint8))
        finally:
            runner.close()


def source(network: nn.Module, calibrated: Callable[..., Source]) -> Source:
    return calibrated(prepare(network, PREPROCESS).network, PREPROCESS, images(), Recipe())


def simulated(source: Source) -> np.ndarray:
    graph = graph_of(capture_images(ImageInput(source.network, PREPROCESS).eval(), PREPROCESS))
    with hushed():
        int8, _ = quantize(graph, source.required_ranges, fold_weights=True)
    return Simulator(int8)(images()).numpy()


def in_float(network: nn.Module) -> np.ndarray:
    with torch.no_grad():
        return ImageInput(network, PREPROCESS)(images()).numpy()


JUMPS = {"threshold", "hardshrink"}
"""Where a value lies within rounding of their jump, one computation lands on this side of it and another on that."""


def is_float_file_right(network: nn.Module, logits: np.ndarray) -> bool:
    """By the rule that export judges by: a network that float32 hardly computes is computed no better in a file."""
    single = in_float(network)
    if sqnr_db(single, logits) >= LEAST_FP32_DB:
        return True
    with torch.no_grad():
        double = ImageInput(copy.deepcopy(network).double(), PREPROCESS)(images().double()).numpy()
    return bool(sqnr_db(double, logits) >= sqnr_db(double, single) - ARITHMETIC_DB)


def without_worst_image(expected: np.ndarray, logits: np.ndarray) -> float:
    """SQNR in dB of all images but the one that differs most."""
    kept = np.argsort(np.abs(expected - logits).max(axis=1))[:-1]
    return float(sqnr_db(expected[kept], logits[kept]))


def check(
    names: tuple[str, ...], network: nn.Module, calibrated: Callable[..., Source], lowered: Callable[..., Path],
    folder: Path, precisions: tuple[Precision, ...] = ("fp32", "int8"),
) -> None:  # fmt: skip
    """Both formats are the network in fp32, and the network's int8 graph in int8."""
    made = source(network, calibrated)
    expected = {"fp32": in_float(network), "int8": simulated(made)}
    for target in ("executorch", "tflite"):
        for precision in precisions:
            file = File(lowered(made, target, precision, LABELS, folder), target)
            found = sqnr_db(expected[precision], file.logits)
            if precision == "int8":
                is_right = found >= LEAST_INT8_DB
            elif JUMPS & set(names):
                is_right = without_worst_image(expected[precision], file.logits) >= LEAST_FP32_DB
            else:
                is_right = is_float_file_right(network, file.logits)
            assert is_right, (names, target, precision, found)
            if target == "executorch" and not KERNELS & set(names):
                assert (file.delegation.partitions, dict(file.delegation.left_out)) == (1, {}), (names, precision)


def of(*names: str) -> Chain:
    torch.manual_seed(0)
    return Chain(*(OPERATORS[name]() for name in names)).eval().requires_grad_(False)


PAIRS = [
    ("convolution, reflect", "convolution, circular"),
    ("reflect", "reflect wide"),
    ("mish", "softplus"),
    ("where", "flip"),
    ("log-softmax", "written in place"),
]


@pytest.mark.parametrize("names", PAIRS, ids=lambda names: " and ".join(names))
def test_a_pair(
    names: tuple[str, ...], calibrated: Callable[..., Source], lowered: Callable[..., Path], tmp_path: Path
) -> None:
    """In fp32 these were −0.3 dB, or a file that failed when run (error 0x12)."""
    check(names, of(*names), calibrated, lowered, tmp_path)


def test_weights_stored_channels_last(
    calibrated: Callable[..., Source], lowered: Callable[..., Path], tmp_path: Path
) -> None:
    """As trainers leave them; the export to ExecuTorch died in a pass."""
    network = of("convolution, reflect").to(memory_format=torch.channels_last)
    made = source(network, calibrated)
    assert all(tensor.is_contiguous() for tensor in made.network.state_dict().values())
    file = File(lowered(made, "executorch", "int8", LABELS, tmp_path), "executorch")
    assert np.array_equal(file.logits, simulated(made))


CHAINS_IN_CI, CHAINS = 12, 300


@pytest.mark.parametrize("seed", range(1000, 1000 + CHAINS_IN_CI))
def test_a_random_chain(
    seed: int, calibrated: Callable[..., Source], lowered: Callable[..., Path], tmp_path: Path
) -> None:
    names, network = chain(seed)
    check(names, network, calibrated, lowered, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1000 + CHAINS_IN_CI, 1000 + CHAINS))
def test_many_random_chains(
    seed: int, calibrated: Callable[..., Source], lowered: Callable[..., Path], tmp_path: Path
) -> None:
    names, network = chain(seed)
    check(names, network, calibrated, lowered, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("name", OPERATORS)
def test_every_operator_alone(
    name: str, calibrated: Callable[..., Source], lowered: Callable[..., Path], tmp_path: Path
) -> None:
    check((name,), of(name), calibrated, lowered, tmp_path)


def test_kernels_between_partitions_agree_on_the_memory_order(
    calibrated: Callable[..., Source], lowered: Callable[..., Path], tmp_path: Path
) -> None:
    """Padding as it was captured, without any rewriting: seven partitions with kernels between them."""
    network = of("convolution, reflect", "convolution, circular")
    made = calibrated(network, PREPROCESS, images(), Recipe())
    file = File(lowered(made, "executorch", "fp32", LABELS, tmp_path), "executorch")
    assert file.delegation.partitions > 2
    assert sqnr_db(in_float(network), file.logits) >= LEAST_FP32_DB


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1000, 1000 + CHAINS_IN_CI))
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_core_ml_takes_them(
    seed: int, precision: Precision, calibrated: Callable[..., Source], lowered: Callable[..., Path], tmp_path: Path
) -> None:
    """Converted; nothing here can run the program."""
    _, network = chain(seed)
    path = lowered(source(network, calibrated), "coreml", precision, LABELS, tmp_path)
    with hushed():
        assert targets.targets()["coreml"].census(Content.read(path)).operators
