"""Operators that a runtime leaves outside its delegate, written as ones that it takes; the numbers stay the same.

One function per operator: it looks at a node and returns the unit that takes its place, or None where the node is
well as it is. They see the captured graph, and so modules, functional calls and exported programs alike.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.fx import Node

from calibration.quantizer import PASSING, is_answer
from pipeline.graphs.arguments import shape_of as _shape
from pipeline.graphs.arguments import with_defaults as _with_defaults
from pipeline.graphs.flat import FlatNetwork
from pipeline.graphs.rewrites import activations, norms, picks, slice_writes, softmax, views
from pipeline.graphs.rewrites.choices import blend_choices
from pipeline.graphs.rewrites.norms import rewrite_norms
from pipeline.graphs.rewrites.numbers import make_numbers_float
from pipeline.graphs.rewrites.picks import pick_by_constants
from pipeline.graphs.units import ChannelScale, HardSigmoid, HardSwish, Mean, OverhangingMaximum, Split
from pipeline.zoo.units.activations import SiLU
from pipeline.zoo.units.normalisation import LocalResponseNorm
from pipeline.zoo.units.pooling import AveragePool
from pipeline.zoo.units.shuffle import ChannelShuffle

aten: Any = torch.ops.aten

PLANE = {2, 3}
"""The axes H and W."""

LONG_SUM, SHORT_SUM = 2048, 64
"""A mean over more values than the first is taken by windows, until no more than the second are left to add up."""

LARGEST_WINDOW = 8


def rewrite(network: FlatNetwork) -> None:
    """Put units in the places of all operators that have one."""
    make_numbers_float(network)
    blend_choices(network)
    rewrite_norms(network)
    pick_by_constants(network)
    for node in network.nodes:
        if node.target in PATTERNS and (found := PATTERNS[node.target](node)) is not None:
            pattern, source = found
            network.replace(node, pattern, source, PATTERN_NAMES[type(pattern)])
    network.clean()
    for node in network.nodes:
        if node.target in UNITS and (unit := UNITS[node.target](node)) is not None:
            name = str(node.target).split(".")[1]  # aten.silu.default
            network.replace(node, unit, node.all_input_nodes[0], name)
    network.clean()


def _silu(node: Node) -> nn.Module:
    del node
    return SiLU()


def _sigmoid(node: Node) -> nn.Module | None:
    """One that is joined with others is rescaled: its int8 scale is fixed, that of a concatenation is another.

    A convolution does it, to the bit as its simulation. Of two scales in a row ExecuTorch makes a conversion, but
    LiteRT's converter none: it takes the first for the concatenation, and fails. Where the joined sigmoids are what the
    network answers, they stay in float.
    """
    shape = _shape(node)
    if len(shape) not in (2, 4) or not _is_joined(node) or is_answer(node):
        return None
    return nn.Sequential(nn.Sigmoid(), ChannelScale(torch.ones(shape[1]), torch.zeros(shape[1])))


def _is_joined(node: Node) -> bool:
    """Whether a tensor ends in a concatenation, that of ``OverhangingMaximum`` included."""
    return any(
        reader.target == aten.cat.default
        or (reader.target == aten.max_pool2d.default and isinstance(_maximum(reader), OverhangingMaximum))
        or (reader.target in PASSING and _is_joined(reader))
        for reader in node.users
    )


def _hard(kind: type[HardSigmoid]) -> Callable[[Node], nn.Module | None]:
    def unit(node: Node) -> nn.Module | None:
        shape = _shape(node.args[0])
        return kind(shape[1]) if len(shape) in (2, 4) else None

    return unit


def _mean(node: Node) -> nn.Module | None:
    """``x.mean((2, 3))``; one that keeps its axes is well as it is, unless its sum is long."""
    source, axes, keep = _with_defaults(node, None, None, False)
    if len(_shape(source)) != 4 or {axis % 4 for axis in axes or ()} != PLANE:
        return None
    mean = _whole(source, keep)
    return mean if mean.windows or not keep else None


def _whole(source: Any, keep: bool) -> Mean:
    """The mean over all of a plane; where that is a long sum, of windows first, if windows of one size cover it."""
    _, channels, height, width = _shape(source)
    windows: list[AveragePool] = []
    while height * width > (SHORT_SUM if windows else LONG_SUM):
        fitting = (side for side in range(LARGEST_WINDOW, 1, -1) if height % side == width % side == 0)
        side = next(fitting, None)
        if side is None:
            break
        windows.append(AveragePool(channels, side, side))
        height, width = height // side, width // side
    return Mean(keep, windows)


def _adaptive_average(node: Node) -> nn.Module | None:
    """Bins that all have one size and one distance are windows; others stay."""
    source, size = node.args[:2]
    sides, wanted = _shape(source)[2:], _pair(size)
    if len(sides) != 2:
        return None
    windows = [_window(side, bins) for side, bins in zip(sides, wanted, strict=True)]
    if wanted == (1, 1):
        return _whole(source, keep=True)
    if windows[0] is None or windows[1] is None:
        return None
    if wanted == sides:
        return nn.Identity()
    return AveragePool(_shape(source)[1], *zip(*windows, strict=True))


def _window(side: int, bins: int) -> tuple[int, int] | None:
    """Kernel and stride where bin i covers ⌊i·side/bins⌋ … ⌈(i + 1)·side/bins⌉ in equal steps."""
    starts = [i * side // bins for i in range(bins)]
    sizes = {-(-(i + 1) * side // bins) - start for i, start in enumerate(starts)}
    steps = {b - a for a, b in pairwise(starts)} or {1}
    return (sizes.pop(), steps.pop()) if len(sizes) == len(steps) == 1 and steps != {0} else None


def _average(node: Node) -> nn.Module | None:
    source, kernel, stride, padding, ceil, counted, divisor = _with_defaults(
        node, None, None, [], [0, 0], False, True, None
    )
    shape, kernel, padding = _shape(source), _pair(kernel), _pair(padding)
    stride = _pair(stride) if stride else kernel
    if len(shape) != 4 or (padding != (0, 0) and not counted and divisor is None):
        return None  # a border whose windows are smaller has no constant weights
    if ceil and any(_overhangs(shape[2:], kernel, stride, padding, (1, 1))):
        return None
    if kernel == shape[2:] and padding == (0, 0) and divisor is None:
        return _whole(source, keep=True)
    return AveragePool(shape[1], kernel, stride, padding, divisor)


def _maximum(node: Node) -> nn.Module | None:
    """Only ``ceil_mode`` needs another form, and not where it is TensorFlow's padding ``SAME``.

    ExecuTorch and Core ML take it as it is, LiteRT's converter only so. Measured with litert-torch 0.10 in 46 cases:
    one MAX_POOL_2D there; elsewhere a PADV2 outside the delegate, or (kernel 3, stride 2 on 7×8) wrong values.
    """
    source, kernel, stride, padding, dilation, ceil = _with_defaults(node, None, None, [], [0, 0], [1, 1], False)
    shape, kernel, padding, dilation = _shape(source), _pair(kernel), _pair(padding), _pair(dilation)
    stride = _pair(stride) if stride else kernel
    if not ceil or len(shape) != 4:
        return None
    overhang = _overhangs(shape[2:], kernel, stride, padding, dilation)
    if not any(overhang):
        return nn.MaxPool2d(kernel, stride, padding, dilation)
    unpadded = (padding, dilation) == ((0, 0), (1, 1))
    if unpadded and max(overhang) == 1 and overhang == _same_padding(shape[2:], kernel, stride):
        return None  # SAME puts half of it, rounded down, in front: of 1 nothing
    return OverhangingMaximum(kernel, stride, padding, dilation, overhang)


def _same_padding(sides: tuple[int, ...], kernel: tuple[int, int], stride: tuple[int, int]) -> tuple[int, ...]:
    """How much ``SAME`` adds to each axis, for ⌈side / stride⌉ windows."""
    axes = zip(sides, kernel, stride, strict=True)
    return tuple(max(0, (-(-side // s) - 1) * s + k - side) for side, k, s in axes)


def _overhangs(
    sides: tuple[int, ...],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> tuple[int, int]:
    """How far the last window reaches over the padded lower and right edge in ``ceil_mode``."""
    found = []
    for side, k, s, p, d in zip(sides, kernel, stride, padding, dilation, strict=True):
        reach = d * (k - 1) + 1
        windows = -(-(side + 2 * p - reach) // s) + 1
        if (windows - 1) * s >= side + p:  # a window must begin inside the picture or its upper padding
            windows -= 1
        found.append(max(0, (windows - 1) * s + reach - side - 2 * p))
    return found[0], found[1]


def _chunk(node: Node) -> nn.Module | None:
    source, count, axis = _with_defaults(node, None, None, 0)
    return _parts(source, axis, lambda length: -(-length // count))


def _split(node: Node) -> nn.Module | None:
    source, size, axis = _with_defaults(node, None, None, 0)
    return _parts(source, axis, lambda _: size)


def _parts(source: Any, axis: int, size: Callable[[int], int]) -> nn.Module | None:
    shape = _shape(source)
    axis %= len(shape)
    if axis == 0:
        return None  # the batch, which has no fixed length
    length = shape[axis]
    step = size(length)
    return Split(tuple(min(step, length - start) for start in range(0, length, step)), axis)


def _split_with_sizes(node: Node) -> nn.Module | None:
    source, sizes, axis = _with_defaults(node, None, None, 0)
    axis %= len(_shape(source))
    fixed = axis != 0 and all(isinstance(size, int) for size in sizes)
    return Split(tuple(sizes), axis) if fixed else None


def _channel_shuffle(node: Node) -> nn.Module | None:
    groups: Any = node.args[1]
    return ChannelShuffle(groups) if len(_shape(node.args[0])) == 4 else None


UNITS: dict[Any, Callable[[Node], nn.Module | None]] = {
    aten.silu.default: _silu,
    aten.sigmoid.default: _sigmoid,
    aten.hardswish.default: _hard(HardSwish),
    aten.hardsigmoid.default: _hard(HardSigmoid),
    aten.mean.dim: _mean,
    aten.adaptive_avg_pool2d.default: _adaptive_average,
    aten.avg_pool2d.default: _average,
    aten.max_pool2d.default: _maximum,
    aten.chunk.default: _chunk,
    aten.split.Tensor: _split,
    aten.split_with_sizes.default: _split_with_sizes,
    aten.channel_shuffle.default: _channel_shuffle,
    **activations.UNITS,
    **norms.UNITS,
    **picks.UNITS,
    **slice_writes.UNITS,
    **softmax.UNITS,
    **views.UNITS,
}


def _local_response_norm(node: Node) -> tuple[nn.Module, Node] | None:
    """``x / (k + α · average of x² over n channels)^0.75``, as ``F.local_response_norm`` spells it."""
    source, power = _with_defaults(node, None, None)
    if not isinstance(source, Node) or not _is(power, aten.pow.Tensor_Scalar) or power.args[1] != 0.75:
        return None
    k_added, k = _scalar(power.args[0], aten.add.Tensor)
    scaled, alpha = _scalar(k_added, aten.mul.Tensor)
    pooled = _behind(scaled, aten.reshape.default, aten.squeeze.dim)
    if not _is(pooled, aten.avg_pool3d.default) or k is None or alpha is None:
        return None
    size = pooled.args[1][0]
    if list(pooled.args[1]) != [size, 1, 1] or list(pooled.args[2]) != [1, 1, 1] or any(pooled.args[3:]):
        return None
    padded = pooled.args[0]
    if not _is(padded, aten.pad.default) or list(padded.args[1]) != [0, 0, 0, 0, size // 2, (size - 1) // 2]:
        return None
    square = _behind(padded.args[0], aten.reshape.default, aten.unsqueeze.default)
    if not _is(square, aten.mul.Tensor) or tuple(square.args) != (source, source) or len(_shape(source)) != 4:
        return None
    return LocalResponseNorm(_shape(source)[1], size, alpha / size, k), source


def _two_means(node: Node) -> tuple[nn.Module, Node] | None:
    """``x.mean(3).mean(2)``."""
    inner, axes, keep = _with_defaults(node, None, None, False)
    if not _is(inner, aten.mean.dim) or len(inner.users) != 1 or keep or len(axes or ()) != 1:
        return None
    source, inner_axes, inner_keep = _with_defaults(inner, None, None, False)
    if len(_shape(source)) != 4 or inner_keep or len(inner_axes or ()) != 1:
        return None
    first = inner_axes[0] % 4
    left = [axis for axis in range(4) if axis != first]
    return (_whole(source, keep=False), source) if {first, left[axes[0] % 3]} == PLANE else None


def _written_shuffle(node: Node) -> tuple[nn.Module, Node] | None:
    """``x.view(n, g, c / g, h, w).transpose(1, 2).reshape(n, c, h, w)``."""
    turned: Any = _behind(node.args[0], aten.contiguous.default, aten.clone.default)
    if not _is(turned, aten.transpose.int) or {axis % 5 for axis in turned.args[1:3]} != {1, 2}:
        return None
    grouped = turned.args[0]
    if not _is(grouped, aten.reshape.default) or len(_shape(grouped)) != 5:
        return None
    source = grouped.args[0]
    shape, groups = _shape(source), _shape(grouped)
    whole = len(shape) == 4 and groups[1] * groups[2] == shape[1] and groups[3:] == shape[2:]
    return (ChannelShuffle(groups[1]), source) if whole and _shape(node) == shape else None


PATTERNS: dict[Any, Callable[[Node], tuple[nn.Module, Node] | None]] = {
    aten.div.Tensor: _local_response_norm,
    aten.mean.dim: _two_means,
    aten.reshape.default: _written_shuffle,
}

PATTERN_NAMES = {LocalResponseNorm: "local_response_norm", Mean: "mean", ChannelShuffle: "channel_shuffle"}


def _is(value: Any, *targets: Any) -> bool:
    return isinstance(value, Node) and value.target in targets


def _behind(value: Any, *passed: Any) -> Any:
    """What these operators were given in the end."""
    while _is(value, *passed):
        value = value.args[0]
    return value


def _scalar(value: Any, target: Any) -> tuple[Any, float | None]:
    """The tensor and the number that an operator joins."""
    if not _is(value, target) or not isinstance(value.args[1], (int, float)) or value.kwargs:
        return None, None
    return value.args[0], float(value.args[1])


def _pair(value: Any) -> tuple[int, int]:
    numbers = [value] * 2 if isinstance(value, int) else list(value)
    return (int(numbers[0]), int(numbers[-1]))
