"""A checkpoint: trained weights, and what they are weights of.

A checkpoint is a safetensors file whose header holds, under ``edge_pipeline``, JSON with the model, its options, the
labels and the preprocessing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
import safetensors.torch
import torch
from torch import nn

from edge_apps.files import write_whole
from edge_apps.images import ImageSet
from edge_apps.runtime.preprocess import Preprocess
from pipeline.checkpoints.fitting import as_stored, first_three, not_finite
from pipeline.checkpoints.metadata import FORMAT, METADATA_KEY, Metadata
from pipeline.data.hashes import ImageHashes
from pipeline.data.reading import digest
from pipeline.errors import BadCheckpoint
from pipeline.zoo.spec import ModelSpec, Value

HASHES = "image_hashes"
"""Where a training's record holds the hashes of its images."""


@dataclass(frozen=True)
class Checkpoint:
    """Trained weights that fit their network; ``state`` is float32 as the network wants it.

    ``sha256`` names the weights: of the file, or of the state dict of others that the file was made from. ``content``
    is the file as it was read, and ``describes_itself`` says whether it holds metadata. ``notes`` are what the user
    should know of how it was read, a line each.
    """

    path: Path
    sha256: str
    content: bytes = field(repr=False)
    describes_itself: bool
    spec: ModelSpec
    options: dict[str, Value]
    labels: tuple[str, ...]
    preprocess: Preprocess
    state: dict[str, torch.Tensor]
    training: dict[str, Any]
    notes: tuple[str, ...] = ()

    def network(self) -> nn.Module:
        """The network with these weights: float32, in evaluation mode, taking normalised ``[N, 3, H, W]``."""
        network = self.spec.build(len(self.labels), **self.options)
        network.load_state_dict(self.state)
        return network.eval()

    def trained_on(self, images: ImageSet) -> bool:
        """Whether these very pictures are one of its ``training_sets``."""
        return digest(images) in self.training_sets

    @property
    def training_sets(self) -> tuple[str, ...]:
        """Digests of the pictures that trained it, the last first; of a training that it started from, too."""
        last = self.training.get("settings", {}).get("data")
        return (*([last] if last else []), *self.training.get("earlier_data", ()))

    @property
    def hashes(self) -> tuple[ImageHashes, ...]:
        """Of each image that trained it, as ``training_sets``; none in checkpoints that did not record them.

        Raises:
            BadCheckpoint: a damaged record.
        """
        try:
            return msgspec.convert(self.training.get(HASHES, ()), tuple[ImageHashes, ...])
        except msgspec.ValidationError as error:
            raise BadCheckpoint(
                f"'{self.path}' has a damaged record of the images that trained it ({error}): train it again, or take "
                "the file from where it was made."
            ) from error


def builtin() -> Path:
    """The trained MobileNetV2 for digits that comes with the package."""
    return Path(str(resources.files("pipeline.zoo") / "weights" / "mobilenet_v2-digits.safetensors"))


def save(
    path: Path,
    network: nn.Module,
    *,
    spec: ModelSpec,
    options: Mapping[str, Value],
    labels: tuple[str, ...],
    preprocess: Preprocess,
    training: Mapping[str, Any],
    dtype: torch.dtype = torch.float32,
    made_from: str | None = None,
) -> None:
    """Write a network's weights with their metadata; the file appears whole or not at all.

    ``made_from`` is the sha256 of the state dict of others that these weights are.

    Raises:
        BadCheckpoint: weights that are NaN, infinite, or too large for ``dtype``. BadInput: unwritable folder.
    """
    metadata = Metadata(
        format=FORMAT,
        model=spec.name,
        options=spec.with_defaults(options),
        classes=len(labels),
        labels=labels,
        preprocess=preprocess,
        training=dict(training),
        made_from=made_from,
    )
    state = as_stored(network.state_dict(), dtype)
    bad = not_finite(state)
    if bad:
        raise BadCheckpoint(f"'{path}' is not written: {first_three(bad)}. Train again with a lower learning rate.")
    header = {METADATA_KEY: msgspec.json.encode(metadata).decode()}
    write_whole(path, safetensors.torch.save(state, header))
