"""A checkpoint's network as one graph behind the normalisation: what calibrates, simulates, and is lowered."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.export import ExportedProgram
from torch.fx import GraphModule

from calibration.algorithms.repairs import Repairs, exchange
from calibration.axes import batch_axis, channel_axis
from calibration.tensor_keys import WEIGHTED, in_network
from edge_apps.chatter import hushed
from edge_apps.images import Image
from edge_apps.runtime.preprocess import to_batch
from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.graphs.flat import FlatNetwork
from pipeline.graphs.front_ends import ImageInput, capture_images, graph_of
from pipeline.graphs.prepare import prepare

BATCH = 16
AT_ONCE = 16 * 64 * 64
"""Pixels of a batch that is only looked at: with sixteen pictures of 224×224 and more every tensor is new memory, and
handing that out takes the kernel as long as the arithmetic."""


@dataclass(frozen=True)
class Captured:
    """A network in the form that devices get, and the program of the one that it was made of.

    ``original`` is as captured before anything was rewritten; ``program`` takes float pixels 0…255 ``[N, 3, H, W]``.
    ``mixing`` is as in ``pipeline.graphs.prepare.Exported``.
    """

    checkpoint: Checkpoint
    network: FlatNetwork
    original: ExportedProgram
    program: ExportedProgram
    mixing: str | None = None

    def graph(self) -> GraphModule:
        """A copy of the program's graph with its weights, to be prepared, run or changed."""
        graph: GraphModule = graph_of(self.program)
        return graph

    def batches(self, pictures: NDArray[np.uint8], size: int | None = None) -> list[torch.Tensor]:
        """Pictures uint8 ``[N, H, W, 3]`` as the program takes them; ``size`` at once, or as many as go fastest."""
        fastest = max(1, min(BATCH, AT_ONCE // (pictures.shape[1] * pictures.shape[2])))
        return split(pictures, self.network.batch or size or fastest)

    def logits(self, graph: Any, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What a graph of this network answers, float32 ``[N, K]``."""
        return answers(graph, self.batches(pictures))

    def features(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What the last layer with weights sees of each picture, averaged over positions: float32 ``[N, D]``."""
        found = answers(_before_the_last_layer(self.graph()), self.batches(pictures))
        # The batch axis may hold several windows of an image.
        features: NDArray[np.float32] = found.reshape(len(pictures), -1, found.shape[-1]).mean(1)
        return features

    def with_repairs(self, repairs: Repairs) -> Captured:
        """The same with these edits, captured again."""
        network = copy.deepcopy(self.network)
        exchange(network, repairs.tensors)
        return self.with_network(network)

    def with_network(self, network: FlatNetwork) -> Captured:
        """Return the same with another form or another part of the network, captured again."""
        return replace(self, network=network, program=_program(network, self.checkpoint))


def capture(checkpoint: Checkpoint, example: Image) -> Captured:
    """Capture a checkpoint's network; ``example`` is a picture that it is compared on before and after rewriting.

    Raises:
        BadInput, LoweringFailed: as ``prepare``.
    """
    pixels = to_batch([example], checkpoint.preprocess)
    normalised = ImageInput(torch.nn.Identity(), checkpoint.preprocess)(split(pixels, 1)[0])
    prepared = prepare(checkpoint.network(), checkpoint.preprocess, normalised)
    return Captured(
        checkpoint, prepared.network, prepared.original, _program(prepared.network, checkpoint), prepared.mixing
    )


def split(pictures: NDArray[np.uint8], size: int) -> list[torch.Tensor]:
    """uint8 ``[N, H, W, 3]`` as float32 batches ``[size, 3, H, W]``, 0…255."""
    return [part.float() for part in torch.split(torch.from_numpy(pictures).permute(0, 3, 1, 2), size)]


def answers(graph: Any, batches: list[torch.Tensor]) -> NDArray[np.float32]:
    """What a graph gives for batches, joined."""
    with torch.no_grad():
        return np.concatenate([graph(batch).numpy() for batch in batches])


def _program(network: FlatNetwork, checkpoint: Checkpoint) -> ExportedProgram:
    with hushed():
        return capture_images(ImageInput(network, checkpoint.preprocess).eval(), checkpoint.preprocess, network.batch)


def _before_the_last_layer(graph: GraphModule) -> GraphModule:
    """The graph, ending where its last convolution or linear layer begins; changes it."""
    layers = [node for node in graph.graph.nodes if node.target in WEIGHTED and in_network(node)]
    output = next(node for node in graph.graph.nodes if node.op == "output")
    last = layers[-1]
    source = last.args[0]
    rank = source.meta["val"].dim()
    kept = {batch_axis(last), rank + channel_axis(last.target)}
    positions = [axis for axis in range(rank) if axis not in kept]
    if positions:
        with graph.graph.inserting_before(output):
            source = graph.graph.call_function(torch.ops.aten.mean.dim, (source, positions))
    output.args = ((source,),) if isinstance(output.args[0], (tuple, list)) else (source,)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph
