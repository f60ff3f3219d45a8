"""Bias correction: what rounding shifts in the mean of every channel is taken out of the biases."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.fx import GraphModule

from calibration.algorithms.algorithm import AlgorithmInput, Phase
from calibration.algorithms.layers import Layer, Walk, evenly, layers_of, tensor_of, watch
from calibration.algorithms.repairs import Repairs
from calibration.quantize import quantize
from calibration.ranges import Ranges
from calibration.simulate import Simulator

PICTURES = 256
"""No more are looked at, spread over the calibration set: means settle soon, and all lie in memory at once."""


class BiasCorrection:
    """See the module."""

    name = "bias"
    phase = Phase.CORRECTION

    def apply(self, given: AlgorithmInput) -> Repairs:
        """Correct the biases of the network against those of the one that it was made of by rounding."""
        return correct_biases(given.unrounded.graph(), given.network.graph(), given.ranges, given.batches)


ALGORITHM = BiasCorrection()


def correct_biases(
    reference: GraphModule, graph: GraphModule, ranges: Ranges, batches: Sequence[torch.Tensor]
) -> Repairs:
    """Layer by layer, add the mean of what ``reference`` outputs less what the quantized ``graph`` outputs to the bias.

    Empirical bias correction (Nagel et al., "Data-free quantization through weight equalization and bias correction",
    ICCV 2019, supplementary material): means over pictures and positions, before the activation, with the layers before
    already quantized and corrected. The quantized graph computes as its files do. One walk over it: no layer is
    computed more than twice.

    ``reference`` is the network that ``graph`` was made of by rounding weights, that is after equalisation: channels
    that were scaled have other means. Layers without a bias of their own keep what they have.
    """
    pictures = evenly(batches, PICTURES)
    expected = {layer.node: _Mean(layer) for layer in layers_of(reference)}
    watch(reference, pictures, lambda node, _source, output: expected[node].add(output))
    quantized, _ = quantize(graph, ranges, fold_weights=True)
    walk = Walk(quantized, pictures, Simulator)
    corrected: dict[str, torch.Tensor] = {}
    for mean, layer, node in zip(expected.values(), layers_of(graph), walk.layers(), strict=True):
        if layer.bias is None:
            continue
        answered = _Mean(layer)
        for output in walk.outputs(node):
            answered.add(output)
        bias = tensor_of(quantized, layer.bias)
        bias += mean.value() - answered.value()  # in place: the walk goes on with it
        corrected[layer.bias] = bias.clone()
    return Repairs(rounded=corrected)


class _Mean:
    """Of a layer's output per channel, float64 sums over batches."""

    def __init__(self, layer: Layer) -> None:
        self.layer = layer
        self.total = torch.zeros(())
        self.count = 0

    def add(self, output: torch.Tensor) -> None:
        """Take in a batch."""
        rows = self.layer.rows(output)
        self.total = self.total + rows.sum(0, dtype=torch.float64)
        self.count += len(rows)

    def value(self) -> torch.Tensor:
        """``[channels]``."""
        return self.total / self.count
