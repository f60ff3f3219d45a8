"""Cross-layer equalisation: channels between layers are scaled so that int8 loses less and the network says the same.

Nagel, van Baalen, Blankevoort, Welling, "Data-Free Quantization Through Weight Equalization and Bias Correction",
ICCV 2019, §4.1. Where nothing but a ReLU and the like stands between two layers, output channel i of the first can be
divided by any s_i > 0 and input channel i of the second multiplied by it. Deviations, each measured on a MobileNetV2
(CIFAR-10 at 64 × 64; dB of 500 test pictures' simulated int8 logits against the float network's):

- No ReLU6 becomes a ReLU. Channels that come near 6 on calibration pictures keep s_i = 1, and the others grow to no
  more than 6, so that the clamp stays where it was. With ReLU instead, a logit moved by 27 % of the largest one,
  although the clamps had acted on 0.002 % of the values.
- The scales are not s_i = √(r1_i · r2_i) / r2_i, which looks at weights alone. Within the same limits that made things
  worse (weights per tensor: 27.5 → 22.7 dB), because the activations lost what the weights gained. Here the scales
  minimise the noise that rounding both weights *and* the activation between them leaves at the second layer's output
  (27.5 → 31.2; weights per channel: 31.5 → 32.6).
- No bias absorption (§4.2): it needs channels that are never zero, and of 15,552 there was none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.fx import GraphModule, Node

from calibration.algorithms.algorithm import AlgorithmInput, Phase
from calibration.algorithms.layers import Layer, bounds_of, layers_of, tensor_of, watch
from calibration.algorithms.repairs import Repairs
from calibration.channel_flow import follow, is_read_as_channels, place_of_output
from calibration.ranges import QMAX, QMIN
from calibration.tensor_keys import FUSED_ACTIVATIONS, WEIGHTED

MARGIN = 1.25
"""Other pictures may reach this much further than those of the calibration before a clamp acts on them."""

SWEEPS = 10
CONVERGED = 0.999
"""A sweep over all pairs that leaves more than this of the noise is the last."""

# Largest weight of the first layer, as a share of what it is, and largest of the second, as a multiple of the least
# that it can be: the grid on which each pair's scales are searched.
SHARES = torch.logspace(-2, 2, 25, dtype=torch.float64)
MULTIPLES = torch.tensor([1, 1.25, 1.6, 2, 3, 5, 10, 30], dtype=torch.float64)


class CrossLayerEqualization:
    """See the module."""

    name = "equalize"
    phase = Phase.SCALING

    def apply(self, given: AlgorithmInput) -> Repairs:
        """Scale the channels of the network as ``equalize`` does."""
        return equalize(given.network.graph(), given.batches)


ALGORITHM = CrossLayerEqualization()


def equalize(graph: GraphModule, batches: Sequence[torch.Tensor]) -> Repairs:
    """Scale the channels between layers; the network gives the same logits for these batches, to float32 rounding.

    So it does for other pictures, unless a value exceeds what calibration saw of its channel by a quarter. Every pair
    of layers is balanced in turn until that gains nothing; a layer may be in two pairs (1×1 → depthwise → 1×1).
    Layers whose tensors are read elsewhere too are left alone.
    """
    pairs = _pairs(layers_of(graph))
    network = _Network(graph, batches, pairs)
    for _ in range(SWEEPS):
        left = [network.balance(pair) for pair in pairs]
        if min(left, default=1.0) > CONVERGED:
            break
    return Repairs(scaled={name: tensor.float() for name, tensor in network.tensors.items()})


@dataclass(frozen=True)
class Pair:
    """Two layers with nothing between them that a positive factor per channel could not pass.

    ``low`` and ``high`` are the bounds of the activations between them, where there are any.
    """

    one: Layer
    other: Layer
    low: float
    high: float


@dataclass(frozen=True)
class Channels:
    """What decides on the scales between two layers; float64 ``[C]``, one value per channel between them.

    before, after: the largest absolute weight of the first layer's output channel, of the second's input channel.
    reach: the largest value between them, which may grow to ``limit`` but not beyond. energy: its mean square.
    passing: the share of values that no activation clamps. arriving: the sum of mean squares that the first layer's
    weights meet. gain: the sum of squares of the second layer's weights that read the channel, ``readers`` of them.
    free: whether it may be scaled.
    """

    before: torch.Tensor
    after: torch.Tensor
    reach: torch.Tensor
    energy: torch.Tensor
    passing: torch.Tensor
    arriving: torch.Tensor
    gain: torch.Tensor
    free: torch.Tensor
    readers: int
    limit: float

    def noise(self, scales: torch.Tensor) -> torch.Tensor:
        """Of the second layer's output, times 12, for scales ``[…, C]``: three roundings with steps Δ, each Δ² / 12.

        The weights' steps are those of one scale per tensor: per channel the first layer's noise does not depend on the
        scales, and leaving it out served per-channel weights worse.
        """
        squares = scales.square()
        step_before, step_after = (self.before / scales).amax(-1) / QMAX, (self.after * scales).amax(-1) / QMAX
        step_between = (self.reach / scales).amax(-1) / (QMAX - QMIN)
        made = step_before[..., None].square() * self.arriving + step_between[..., None].square()
        first = (made * self.passing * self.gain * squares).sum(-1)
        second: torch.Tensor = step_after.square() * self.readers * (self.energy / squares).sum(-1)
        return first + second

    def best_scales(self) -> torch.Tensor:
        """Those of the least noise, 1 where nothing is gained.

        For given largest weights of both layers, noise is least at s_i⁴ = a_i / b_i with b_i s_i² + a_i / s_i² the
        noise that channel i carries, within the bounds that these largest weights and the limit set. So only the two
        largest weights are searched, on a grid.
        """
        one = torch.ones_like(self.reach)
        if not self.free.any():
            return one
        kept_before, kept_after = (self.largest(weights, ~self.free) for weights in (self.before, self.after))
        before = (SHARES * self.largest(self.before, self.free)).clamp(min=kept_before)[:, None, None]
        least = torch.maximum(self.before / before, self.reach / self.limit)
        needed = torch.where(self.free, self.after * least, 0.0).amax(-1, keepdim=True).clamp(min=kept_after)
        after = MULTIPLES[:, None] * needed
        step_between = self.limit / (QMAX - QMIN)
        first = ((before / QMAX).square() * self.arriving + step_between**2) * self.passing * self.gain
        second = (after / QMAX).square() * self.readers * self.energy
        scales = torch.where(self.free, (second / first).pow(0.25).maximum(least).minimum(after / self.after), one)
        tried = torch.cat([one[None], scales.flatten(0, 1)])
        return tried[int(self.noise(tried).argmin())]

    @staticmethod
    def largest(values: torch.Tensor, among: torch.Tensor) -> float:
        """0 where there is none."""
        return float(torch.where(among, values, 0.0).max())


@dataclass
class _Signal:
    """What calibration saw at a layer that begins a pair: sums over positions, then what follows from them."""

    reach: torch.Tensor
    energy: torch.Tensor
    passing: torch.Tensor
    arriving: torch.Tensor


class _Network:
    """Weights and signals of all pairs, in float64, as the scales so far have made them."""

    def __init__(self, graph: GraphModule, batches: Sequence[torch.Tensor], pairs: Sequence[Pair]) -> None:
        names = {name for pair in pairs for name in (pair.one.weight, pair.one.bias, pair.other.weight) if name}
        self.tensors = {name: tensor_of(graph, name).double() for name in sorted(names)}
        self._signals = _signals(graph, batches, pairs)

    def balance(self, pair: Pair) -> float:
        """Scale the channels between two layers; returns the share of the noise that is left."""
        channels = self._channels(pair)
        scales = channels.best_scales()
        signal, following = self._signals[pair.one.node], self._signals.get(pair.other.node)
        weight = self.tensors[str(pair.one.weight)]
        weight.div_(scales.view(-1, *[1] * (weight.dim() - 1)))
        if pair.one.bias is not None:
            self.tensors[pair.one.bias].div_(scales)
        self._by_input(pair).mul_(scales.view(pair.other.groups, 1, -1, 1))
        signal.reach /= scales
        signal.energy /= scales.square()
        if following is not None:
            following.arriving.view(len(scales), -1).div_(scales.square()[:, None])
        before, left = channels.noise(torch.stack([torch.ones_like(scales), scales])).tolist()
        return left / before if before else 1.0

    def _channels(self, pair: Pair) -> Channels:
        signal, weight, readers = self._signals[pair.one.node], self.tensors[str(pair.one.weight)], self._by_input(pair)
        before, after = weight.abs().flatten(1).amax(1), readers.abs().amax((1, 3)).flatten()
        reach = signal.reach * (MARGIN if pair.high < math.inf else 1)
        passes = (before > 0) & (after > 0) & (reach > 0) & (signal.passing > 0)
        groups = pair.one.groups
        arriving = signal.arriving.view(groups, -1).sum(1) * weight[0, 0].numel()
        return Channels(
            before=before,
            after=after,
            reach=reach.clamp(max=pair.high),
            energy=signal.energy,
            passing=signal.passing,
            arriving=arriving.repeat_interleave(len(weight) // groups),
            gain=readers.square().sum((1, 3)).flatten(),
            free=passes & (reach <= pair.high),
            readers=readers.shape[1] * readers.shape[3],
            limit=min(pair.high, float(reach.max())),
        )

    def _by_input(self, pair: Pair) -> torch.Tensor:
        """A view of the second layer's weight: [groups, outputs, channels, values of a channel that a weight reads]."""
        weight, channels = self.tensors[str(pair.other.weight)], len(self._signals[pair.one.node].reach)
        groups = pair.other.groups
        return weight.view(groups, len(weight) // groups, channels // groups, -1)


def _signals(graph: GraphModule, batches: Sequence[torch.Tensor], pairs: Sequence[Pair]) -> dict[Node, _Signal]:
    by_node = {pair.one.node: pair for pair in pairs}
    sums: dict[Node, _Signal] = {}
    positions: dict[Node, tuple[int, int]] = {}

    def look(node: Node, source: torch.Tensor, output: torch.Tensor) -> None:
        if node not in by_node:
            return
        pair = by_node[node]
        rows, inputs = pair.one.rows(output), pair.one.rows(source)
        inside = (rows > pair.low) & (rows < pair.high)
        seen = _Signal(
            reach=(rows if pair.low == 0 else rows.abs()).amax(0).double(),
            energy=rows.clamp(pair.low, pair.high).square().sum(0).double(),
            passing=inside.sum(0).double(),
            arriving=inputs.square().sum(0).double(),
        )
        count = (len(rows), len(inputs))
        if node in sums:
            so_far, counted = sums[node], positions[node]
            seen.reach = seen.reach.maximum(so_far.reach)
            seen.energy += so_far.energy
            seen.passing += so_far.passing
            seen.arriving += so_far.arriving
            count = (count[0] + counted[0], count[1] + counted[1])
        sums[node], positions[node] = seen, count

    watch(graph, batches, look)
    for node, signal in sums.items():
        outputs, inputs = positions[node]
        signal.energy /= outputs
        signal.passing /= outputs
        signal.arriving /= inputs
    return sums


def _pairs(layers: Sequence[Layer]) -> list[Pair]:
    by_node = {layer.node: layer for layer in layers}
    found = (_follow(layer, by_node) for layer in layers)
    return [pair for pair in found if pair is not None]


def _follow(one: Layer, by_node: dict[Node, Layer]) -> Pair | None:
    """The pair that a layer begins: what reads its output is read by one operator only, up to the next layer."""
    low, high, here = -math.inf, math.inf, one.node
    place = place_of_output(here)
    channels = int(here.meta["val"].shape[place.axis])
    while len(here.users) == 1:
        (after,) = here.users
        if after.target in WEIGHTED:
            other = by_node[after]
            editable = one.weight and other.weight and (one.bias or not one.has_bias) and after.args[0] is here
            return Pair(one, other, low, high) if editable and is_read_as_channels(after, place) else None
        if after.target in FUSED_ACTIVATIONS:
            least, most = bounds_of(after)
            if least != 0:  # a hardtanh: its lower clamp does not scale either
                return None
            low, high = 0.0, min(high, most)
        moved = follow(after, place, channels)
        if moved is None:
            return None
        place, here = moved, after
    return None
