"""A network that ends in softmax or sigmoid, recognised before it is trained with a loss that expects logits."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edge_apps.runtime.preprocess import Preprocess
from pipeline.graphs.normalise import Normalise
from pipeline.graphs.outputs import output_kind
from pipeline.graphs.prepare import export_network

CHECKED_IMAGES = 16

PROBABILITIES_WARNING = (
    "Warning: the network returns probabilities, and the training loss, cross-entropy, applies softmax itself: the "
    "network learns slowly and its accuracy suffers. Let it return logits; exported files turn them into probabilities."
)


def gives_probabilities(network: nn.Module, images: NDArray[np.uint8], preprocess: Preprocess) -> bool:
    """Return whether a network on the CPU answers images ``[N, H, W, 3]`` with probabilities instead of logits."""
    program, batch, _ = export_network(network, preprocess)
    was_training = network.training
    network.eval()
    with torch.no_grad():
        normalised = Normalise(preprocess)(torch.from_numpy(images))
        outputs = torch.cat([network(part) for part in torch.split(normalised, batch or len(images))])
    network.train(was_training)
    return output_kind(program, outputs.numpy()) != "logits"
