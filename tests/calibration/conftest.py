"""Pictures in memory: what draws and hygiene see, made by a test picture by picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from edge_apps.errors import BadImage
from edge_apps.images import FileImages, Image, open_images
from edge_apps.runtime.preprocess import Preprocess

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.fx import GraphModule

    from calibration.algorithms.repairs import Repairs
    from calibration.ranges import Ranges
    from calibration.recipe import Recipe


@dataclass
class Pictures:
    """An ``ImageSet``; a picture of None cannot be decoded. ``decoded`` says which were, in order."""

    pictures: Sequence[Image | None]
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    name: str = "memory"
    decoded: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.pictures)

    def item_name(self, index: int) -> str:
        """As in a folder of class folders."""
        return f"{self.classes[self.labels[index]]}/{index}.png"

    def encoded(self, index: int) -> bytes:
        """The pixels."""
        picture = self.pictures[index]
        return b"" if picture is None else repr(picture.shape).encode() + picture.tobytes()

    def image(self, index: int) -> Image:
        """As given."""
        self.decoded.append(index)
        picture = self.pictures[index]
        if picture is None:
            raise BadImage(f"Corrupt image '{self.item_name(index)}': it is empty. Replace or remove it.")
        return picture


@pytest.fixture
def in_memory() -> Callable[..., Pictures]:
    """``in_memory(pictures, labels)``; without labels, two classes take turns."""

    def make(
        pictures: Sequence[Image | None],
        labels: Sequence[int] | None = None,
        classes: tuple[str, ...] = ("cat", "dog"),
    ) -> Pictures:
        given = [i % len(classes) for i in range(len(pictures))] if labels is None else labels
        return Pictures(pictures, tuple(given), classes)

    return make


@pytest.fixture
def scene() -> Callable[..., Image]:
    """``scene(seed)``: a picture as smooth and as detailed as pictures are: amplitudes fall with frequency."""

    def make(seed: int, height: int = 64, width: int = 64) -> Image:
        chance = np.random.default_rng(seed)
        frequency = 1 + np.hypot(*np.meshgrid(np.arange(64), np.arange(64)))
        layers = [cv2.idct(chance.normal(size=(64, 64)) / frequency) for _ in range(3)]
        colour = np.stack(layers, 2)
        colour = (colour - colour.min()) / (colour.max() - colour.min())
        return cv2.resize((colour * 255).astype(np.uint8), (width, height), interpolation=cv2.INTER_AREA)

    return make


@pytest.fixture(scope="session")
def small_photos(shared_data: Path) -> FileImages:
    """CIFAR-10's 10,000 test pictures, 32×32."""
    return open_images(shared_data / "cifar10" / "test.tar")


@pytest.fixture(scope="session")
def photos(shared_data: Path) -> list[Image]:
    """43 real photos of unlike things."""
    images = open_images(shared_data / "photos")
    return [images.image(index) for index in range(len(images))]


@pytest.fixture(scope="session")
def captured(preprocess: Preprocess) -> Callable[..., GraphModule]:
    """``captured(network)``: its graph behind the normalisation, for batches of any size."""
    from pipeline.graphs.front_ends import ImageInput, capture_images, graph_of

    def make(network: nn.Module) -> GraphModule:
        graph: GraphModule = graph_of(capture_images(ImageInput(network.eval(), preprocess).eval(), preprocess))
        return graph

    return make


@pytest.fixture(scope="session")
def ranges_of(preprocess: Preprocess) -> Callable[..., Ranges]:
    """``ranges_of(graph, batches, recipe)``: one calibration."""
    from calibration.dataset.dataset import CalibrationSet
    from calibration.quantize import find_ranges
    from calibration.ranges import Ranges
    from pipeline.graphs.front_ends import input_range

    def make(graph: GraphModule, batches: Sequence[torch.Tensor], recipe: Recipe) -> Ranges:
        values, observers = find_ranges(graph, batches, recipe, input_range(preprocess))
        return Ranges(
            checkpoint_sha256="0" * 64,
            preprocess=preprocess,
            recipe=recipe,
            calibration_set=CalibrationSet(source="test", how="all", seed=0, images=()),
            values=values,
            observers=observers,
        )

    return make


@pytest.fixture(scope="session")
def edited() -> Callable[..., GraphModule]:
    """``edited(graph, repairs)``: a copy of the graph with other values for some tensors."""
    import copy

    from calibration.algorithms.repairs import with_values

    def make(graph: GraphModule, repairs: Repairs) -> GraphModule:
        return with_values(copy.deepcopy(graph), repairs.tensors)

    return make
