"""From a network and pictures to device files, without a checkpoint between."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import torch
    from torch import nn

    from calibration.recipe import Recipe
    from edge_apps.runtime.manifest import FileManifest
    from edge_apps.runtime.precisions import Precision
    from edge_apps.runtime.preprocess import Preprocess
    from pipeline.targets.base import Source

NOBODY = "0" * 64


@pytest.fixture(scope="session")
def calibrated() -> Callable[..., Source]:
    """``calibrated(network, preprocess, pictures, recipe)``: with the ranges of those pictures."""
    from calibration.dataset.dataset import CalibrationSet
    from calibration.quantize import find_ranges
    from calibration.ranges import Ranges
    from edge_apps.chatter import hushed
    from pipeline.graphs.front_ends import ImageInput, capture_images, graph_of, input_range
    from pipeline.targets.base import Source

    def made(network: nn.Module, preprocess: Preprocess, pictures: torch.Tensor, recipe: Recipe) -> Source:
        batch = getattr(network, "batch", None)
        graph = graph_of(capture_images(ImageInput(network, preprocess).eval(), preprocess, batch))
        with hushed():
            values = find_ranges(graph, pictures.split(batch or 16), recipe, input_range(preprocess)).values
        images = CalibrationSet(source="test", how="all", seed=0, images=())
        ranges = Ranges(
            checkpoint_sha256=NOBODY, preprocess=preprocess, recipe=recipe, calibration_set=images, values=values
        )
        return Source(network, ranges)

    return made


@pytest.fixture(scope="session")
def about() -> Callable[..., FileManifest]:
    """``about(target, precision, labels, preprocess)``: what a file says of itself."""
    from edge_apps.runtime.manifest import FORMAT, FileManifest, Provenance

    def made(target: str, precision: Precision, labels: tuple[str, ...], preprocess: Preprocess) -> FileManifest:
        return FileManifest(
            format=FORMAT,
            model="test",
            options={},
            target=target,
            precision=precision,
            labels=labels,
            preprocess=preprocess,
            provenance=Provenance(checkpoint_sha256=NOBODY),
        )

    return made


@pytest.fixture(scope="session")
def lowered(
    about: Callable[..., FileManifest], uncovered: Callable[[], AbstractContextManager[None]]
) -> Callable[..., Path]:
    """``lowered(source, target, precision, labels, folder)``: a file, no layer of which was left in float."""
    from edge_apps.chatter import hushed
    from pipeline import targets

    def made(source: Source, name: str, precision: Precision, labels: tuple[str, ...], folder: Path) -> Path:
        target = targets.targets()[name]
        path = folder / f"test-{precision}{target.suffix}"
        with hushed(), uncovered():
            assert target.lower(source, about(name, precision, labels, source.required_ranges.preprocess), path) == ()
        return path

    return made
