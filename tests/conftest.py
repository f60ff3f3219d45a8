"""Fixtures that several rooms' tests share. torch is imported on use: the device's tests run without it."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edge_apps.runtime.preprocess import Preprocess

if TYPE_CHECKING:
    import torch
    from torch import nn

    from edge_apps.runtime.manifest import Bundle

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # files run side by side already: torch's threads would stand in line

sys.path.insert(0, str(Path(__file__).parent))  # recorder.py, which tests of all floors use

SHARED = Path(__file__).resolve().parents[2] / "shared"
SMALL_SIZE = 32


@pytest.fixture(scope="module", autouse=True)
def settled() -> Iterator[None]:
    """What a file of tests leaves is not looked through again: with gigabytes of it exports take four times as long."""
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def state_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep the id of the device, which every camera run stores, out of the home folder of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("state")
        patch.setenv("XDG_STATE_HOME", str(folder))
        patch.delenv("STATE_DIRECTORY", raising=False)
        yield folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real pictures that may not live in this repository."""
    data = SHARED / "data"
    if not data.is_dir():
        pytest.skip("the shared pictures are not on this machine: this test did NOT run")
    return data


@pytest.fixture(scope="session")
def preprocess() -> Preprocess:
    """Of the small network."""
    return Preprocess(height=SMALL_SIZE, width=SMALL_SIZE)


@pytest.fixture(scope="session")
def small_as_written() -> nn.Module:
    """A MobileNetV2 in miniature with lively statistics: every operator that the quantizer knows, in a second."""
    import torch
    from torch import nn

    from pipeline.zoo.units.blocks import ConvBatchNorm, FeatureClassifier
    from pipeline.zoo.units.inverted_residual import InvertedResidual

    torch.manual_seed(0)
    features = nn.Sequential(ConvBatchNorm(3, 8, stride=2), InvertedResidual(8, 8, 1, 2), ConvBatchNorm(8, 16, 1))
    network = FeatureClassifier(features, nn.Sequential(nn.Dropout(0.2), nn.Linear(16, 5)))
    with torch.no_grad():
        for _ in range(20):
            network(torch.randn(16, 3, SMALL_SIZE, SMALL_SIZE))
    return network.eval()


@pytest.fixture(scope="session")
def small(small_as_written: nn.Module) -> nn.Module:
    """The same, in the form that devices get."""
    from pipeline.graphs.prepare import prepare

    return prepare(small_as_written, Preprocess(height=SMALL_SIZE, width=SMALL_SIZE)).network


@pytest.fixture(scope="session")
def pictures() -> torch.Tensor:
    """Float pixels 0…255, ``[N, 3, H, W]``, smooth enough to be pictures."""
    import torch

    coarse = torch.rand(40, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    return (torch.nn.functional.interpolate(coarse, size=(SMALL_SIZE, SMALL_SIZE), mode="bilinear") * 255).round()


@pytest.fixture(scope="session")
def uncovered() -> Callable[[], AbstractContextManager[None]]:
    """``with uncovered():`` coverage looks away from converters, which are Python and else take 1.7 times as long."""
    import coverage

    @contextmanager
    def looking_away() -> Iterator[None]:
        watching = coverage.Coverage.current()
        if watching is not None:
            watching.stop()
        try:
            yield
        finally:
            if watching is not None:
                watching.start()

    return looking_away


@pytest.fixture(scope="session")
def demo_bundle(
    tmp_path_factory: pytest.TempPathFactory, uncovered: Callable[[], AbstractContextManager[None]]
) -> Bundle:
    """The built-in checkpoint exported to every target in fp32 and int8: real files, made once for all tests."""
    from calibration.recipe import Recipe
    from pipeline import targets
    from pipeline.checkpoints.checkpoint import builtin
    from pipeline.checkpoints.load import load
    from pipeline.data import open_data
    from pipeline.exporting.job import ExportJob
    from pipeline.exporting.write import build

    files, _ = targets.plan(targets.choose_targets(["all"]), [])
    out = tmp_path_factory.mktemp("demo") / "bundle"
    images = open_data("digits", "calibration")
    with uncovered():
        return build(ExportJob(load(builtin()), files, images, Recipe(), out))


@pytest.fixture
def contract() -> Callable[[str, str], AbstractContextManager[None]]:
    """``with contract("torch", "schemas of operators"): …`` fails in one line where the block fails."""

    @contextmanager
    def holds(package: str, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            line = (str(error).splitlines() or [""])[0]
            reason = f"{package} {version(package)} changed {what}: {type(error).__name__} {line}"
            pytest.fail(reason, pytrace=False)

    return holds
