"""Adaptive rounding: which way each weight is rounded is learned, layer by layer, from what the layer outputs.

Nagel, Amjad, van Baalen, Louizos, Blankevoort, "Up or Down? Adaptive Rounding for Post-Training Quantization", ICML
2020, equations 21 to 25. Deviations:

- Positions are drawn once from all over the pictures, and 500 steps are made with a learning rate of 0.06, where the
  paper makes 10,000: about a minute on one core for MobileNetV2. Twice as many lowered the loss by 1 % more.
- λ is a share of what rounding to nearest loses, not an absolute 0.01: it means the same whatever a layer's size and
  the scale of its values.
- A quarter of the pictures is held out, and an output keeps the nearest integers where the learned ones do worse on
  these. Late layers have more weights than the pictures have positions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.fx import GraphModule, Node

from calibration.algorithms.algorithm import AlgorithmInput, Phase
from calibration.algorithms.layers import Layer, Walk, bounds_of, evenly, layers_of, tensor_of, watch
from calibration.algorithms.patches import Positions
from calibration.algorithms.repairs import Repairs
from calibration.quantize import quantize
from calibration.ranges import QMAX, Ranges
from calibration.simulate import Simulator
from calibration.tensor_keys import fused_activation
from edge_apps import progress

PICTURES = 256
"""No more are looked at, spread over the calibration set: all of them lie in memory at once."""

ROWS = 4096
"""About so many positions of a layer's output are looked at, the same number in each picture."""

HELD_OUT = 4
"""One picture in so many is not learned from."""

MOST_WEIGHTS = 2**23
"""A layer of more is left alone: it would take minutes, and be learned from far too few positions."""

ITERATIONS = 500
BATCH = 128
LEARNING_RATE = 0.06

REGULARISATION = 30.0
"""λ: that much of what rounding to nearest loses, shared out over the weights."""

WARM_UP = 0.2
"""The share of the iterations before the regulariser begins to draw h to 0 and 1."""

FIRST_BETA, LAST_BETA = 20.0, 2.0
"""Its exponent falls from one to the other along a cosine: first only what is near 0 or 1 is drawn."""

ZETA, GAMMA = 1.1, -0.1
"""The sigmoid is stretched to this interval and clamped to 0…1, so that it arrives there (equation 23)."""

SETTLED = -20.0
"""A variable whose h is 0 and has no gradient."""


class AdaRound:
    """See the module."""

    name = "adaround"
    phase = Phase.ROUNDING

    def apply(self, given: AlgorithmInput) -> Repairs:
        """Round the weights of the network as ``round_adaptively`` does."""
        return round_adaptively(given.network.graph(), given.ranges, given.batches)


ALGORITHM = AdaRound()


def round_adaptively(graph: GraphModule, ranges: Ranges, batches: Sequence[torch.Tensor]) -> Repairs:
    """Weights on their int8 grids, rounded up or down so that layers output what they do in float.

    Scales are those of the weights as they are; the largest of each scale's weights stays where it is, so that whoever
    looks at the new weights finds the same scale. A layer's input is that of the quantized graph, computed as its files
    do, with the layers before already rounded; its target is what the float ``graph`` outputs, both after the
    activation (equation 25).

    Left alone: layers that stay in float, those whose weight is read elsewhere too or is very large, and those that
    gain nothing. The same arguments give the same weights.
    """
    pictures = evenly(batches, PICTURES)
    layers = layers_of(graph)
    per_picture = math.ceil(ROWS / sum(map(len, pictures)))
    sizes = [len(batch) for batch in pictures]
    seen = {layer.node: Positions(layer, sizes, per_picture, seed) for seed, layer in enumerate(layers)}
    watch(graph, pictures, lambda node, _source, output: seen[node].note(output))
    walk = Walk(quantize(graph, ranges, fold_weights=True)[0], pictures, Simulator)
    rounded: dict[str, torch.Tensor] = {}
    for layer, node in zip(progress.each(layers, "Rounding layers"), walk.layers(), strict=True):
        positions, (source, stored, *biases) = seen.pop(layer.node), node.all_input_nodes
        if layer.weight is None or stored.op == "get_attr":
            continue  # shared, or in float
        weight = tensor_of(graph, layer.weight)
        if weight.numel() > MOST_WEIGHTS:
            continue
        bias = walk.constant(biases[0]) if biases else torch.zeros(len(weight))
        task, held_out = _tasks(layer, positions, walk.values(source), bias, weight.shape[2:])
        scale = _scale(walk, stored, layer.groups)
        exact = (weight.double().view(layer.groups, -1, weight[0].numel()) / scale).float()
        found = learn(task, held_out, exact, scale.float())
        if found is not None:
            rounded[layer.weight] = (found.double() * scale).float().view(weight.shape)
            walk.replace(stored, rounded[layer.weight])
    return Repairs(rounded=rounded)


@dataclass(frozen=True)
class Task:
    """What a layer is to output at some positions.

    inputs: ``[groups, positions, K]``, the K values that an output's weights meet, of the quantized network. targets:
    ``[groups, positions, outputs of a group]``, of the float network after the activation, which clamps to low…high.
    bias: ``[groups, 1, outputs of a group]``.
    """

    inputs: torch.Tensor
    targets: torch.Tensor
    bias: torch.Tensor
    low: float
    high: float

    def part(self, positions: Any) -> Task:
        """The same of some positions."""
        return replace(self, inputs=self.inputs[:, positions], targets=self.targets[:, positions])

    def losses(self, weight: torch.Tensor) -> torch.Tensor:
        """Mean squared error of each output with a weight ``[groups, outputs of a group, K]``."""
        return self._difference(self._sums(weight)).square().mean(1)

    def slope(self, weight: torch.Tensor) -> torch.Tensor:
        """The gradient of the sum of ``losses``."""
        sums = self._sums(weight)
        inside = (sums > self.low) & (sums < self.high)
        back = self._difference(sums).mul_(inside).mul_(2 / self.inputs.shape[1])
        return torch.bmm(back.transpose(1, 2), self.inputs)

    def _sums(self, weight: torch.Tensor) -> torch.Tensor:
        return torch.baddbmm(self.bias, self.inputs, weight.transpose(1, 2))

    def _difference(self, sums: torch.Tensor) -> torch.Tensor:
        return sums.clamp(self.low, self.high).sub_(self.targets)


def learn(task: Task, held_out: Task, exact: torch.Tensor, scale: torch.Tensor) -> torch.Tensor | None:
    """Integers that do better than the nearest on positions that were not learned from, output by output.

    exact: weights in steps of their scale, float32 ``[groups, outputs of a group, K]``; scale broadcasts to that. None
    where no output gains.
    """
    nearest = exact.round()
    rounding = Rounding(exact)
    if rounding.is_settled():
        return None
    optimiser = torch.optim.Adam([rounding.variables], lr=LEARNING_RATE, fused=True)
    parts = [task.part(slice(first, first + BATCH)) for first in range(0, task.inputs.shape[1], BATCH)]
    strength = REGULARISATION * float(task.losses(nearest * scale).sum()) / exact.numel()
    for iteration in range(ITERATIONS):
        share = (iteration / ITERATIONS - WARM_UP) / (1 - WARM_UP)
        slope = parts[iteration % len(parts)].slope(rounding.weight() * scale) * scale
        if share >= 0:
            beta = LAST_BETA + (FIRST_BETA - LAST_BETA) * (1 + math.cos(math.pi * share)) / 2
            slope += rounding.pull(beta) * strength
        rounding.variables.grad = rounding.back(slope)
        optimiser.step()
    found = rounding.integers()
    better = held_out.losses(found * scale) < held_out.losses(nearest * scale)
    return torch.where(better[..., None], found, nearest) if better.any() else None


class Rounding:
    """⌊w⌋ + h(V), with h between 0 and 1: equations 22 to 24."""

    def __init__(self, exact: torch.Tensor) -> None:
        nearest = exact.round()
        settled = nearest.abs() >= QMAX  # what carries the scale, and what could only leave the grid
        self.floor = torch.where(settled, nearest, exact.floor())
        share = exact - self.floor
        start = -torch.log((ZETA - GAMMA) / (share - GAMMA) - 1)
        self.variables = torch.nn.Parameter(torch.where(settled, SETTLED, start))

    def is_settled(self) -> bool:
        """Whether there is nothing to learn."""
        return bool((self.variables == SETTLED).all())

    def weight(self) -> torch.Tensor:
        """In steps of the scale, as far as it has settled."""
        with torch.no_grad():
            self._sigmoid = torch.sigmoid(self.variables)
            self._stretched = self._sigmoid * (ZETA - GAMMA) + GAMMA
            return self.floor + self._stretched.clamp(0, 1)

    def pull(self, beta: float) -> torch.Tensor:
        """The gradient of Σ 1 − |2h − 1|^β by h."""
        away = (2 * self._stretched - 1).clamp(-1, 1)
        return away.abs().pow_(beta - 1).mul_(-2 * beta).mul_(away.sign())

    def back(self, slope: torch.Tensor) -> torch.Tensor:
        """From a gradient by h to one by V."""
        moves = (self._stretched > 0) & (self._stretched < 1)
        return slope.mul_(moves).mul_(self._sigmoid * (1 - self._sigmoid) * (ZETA - GAMMA))

    def integers(self) -> torch.Tensor:
        """Rounded up where h is above a half."""
        return self.floor + (self.variables.detach() > 0)


def _tasks(
    layer: Layer, positions: Positions, sources: Sequence[torch.Tensor], bias: torch.Tensor, kernel: Sequence[int]
) -> tuple[Task, Task]:
    """What is learned from, in random order, and what is held out: all of it twice where there are too few pictures."""
    inputs = positions.inputs(sources, kernel)
    pictures, drawn, groups, _ = inputs.shape
    low, high = bounds_of(fused_activation(layer.node))
    targets = positions.outputs().clamp(low, high).view(pictures * drawn, groups, -1)
    whole = Task(
        inputs.flatten(0, 1).movedim(1, 0).contiguous(),
        targets.movedim(1, 0).contiguous(),
        bias.view(groups, 1, -1),
        low,
        high,
    )
    held = (torch.arange(pictures) % HELD_OUT == HELD_OUT - 1).repeat_interleave(drawn)
    if not held.any():
        return whole, whole
    learned_from = (~held).nonzero().flatten()
    order = torch.randperm(len(learned_from), generator=torch.Generator().manual_seed(0))
    return whole.part(learned_from[order]), whole.part(held)


def _scale(walk: Walk, dequantize: Node, groups: int) -> torch.Tensor:
    """Of a weight, float64 ``[groups, outputs of a group, 1]`` or one for all."""
    scale: Any = dequantize.args[1]
    if isinstance(scale, Node):
        return walk.constant(scale).double().view(groups, -1, 1)
    return torch.tensor(float(scale), dtype=torch.float64)
