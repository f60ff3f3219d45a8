"""Where the channels of a layer lie in what is computed from its output: operators that a factor per channel passes."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch.fx import Node

from calibration.axes import channel_axis
from calibration.tensor_keys import FUSED_ACTIVATIONS, LEAKY

aten = torch.ops.aten

UNCHANGED = {
    aten.dropout.default, aten.dropout_.default, aten.clone.default, aten.contiguous.default, *LEAKY,
    *FUSED_ACTIVATIONS,
}  # fmt: skip
RESHAPES = {
    aten.flatten.using_ints, aten.view.default, aten.reshape.default, aten.unsqueeze.default,
    aten.squeeze.dims, aten.squeeze.dim,
}  # fmt: skip
PADDING = {aten.pad.default, aten.constant_pad_nd.default}


class ChannelPlace(NamedTuple):
    """The axis of a tensor on which channels lie one after the other, ``inner`` values of each.

    A convolution's output ``[N, C, H, W]`` has them on axis 1, one value each; flattened to ``[N, C · H · W]``, it has
    H · W values of each.
    """

    axis: int
    inner: int = 1


def place_of_output(layer: Node) -> ChannelPlace:
    """Return where a convolution or linear layer outputs its channels."""
    return ChannelPlace(len(_shape(layer)) + channel_axis(layer.target))


def is_read_as_channels(layer: Node, place: ChannelPlace) -> bool:
    """Whether a layer takes these channels as its input channels, one after the other."""
    source: Any = layer.args[0]
    at_its_axis = place.axis == len(_shape(source)) + channel_axis(layer.target)
    return at_its_axis and (place.inner == 1 or layer.target == aten.linear.default)


def follow(node: Node, place: ChannelPlace, channels: int) -> ChannelPlace | None:
    """Return where the channels lie after an operator; None where a factor per channel would not pass it.

    Operators that move, select or average values, pad with zeros, or keep the sign of what they scale are passed, as
    long as they leave the axis of the channels alone.
    """
    source, *rest = node.args
    if not isinstance(source, Node):
        return None  # a concatenation
    arguments: Any = tuple(rest)
    rank = len(_shape(source))
    if node.target in UNCHANGED:
        return place
    if node.target in RESHAPES:
        return _reshaped(_shape(source), _shape(node), place, channels)
    if node.target == aten.permute.default:
        return place._replace(axis=[axis % rank for axis in arguments[0]].index(place.axis))
    if node.target == aten.transpose.int:
        one, other = (axis % rank for axis in arguments)
        return place._replace(axis={one: other, other: one}.get(place.axis, place.axis))
    if node.target == aten.max_pool2d.default:
        return place if place.axis < rank - 2 else None
    if node.target in PADDING:
        filled = any(value for value in arguments[1:] if not isinstance(value, str))  # a string says how
        return place if place.axis < rank - len(arguments[0]) // 2 and not filled else None
    if node.target == aten.slice.Tensor:
        return place if (arguments[0] if arguments else 0) % rank != place.axis else None
    if node.target == aten.mean.dim:
        return _without(place, [axis % rank for axis in arguments[0] or range(rank)], keep=arguments[1:2] == (True,))
    if node.target == aten.select.int:
        return _without(place, [arguments[0] % rank], keep=False)
    return None


def _without(place: ChannelPlace, axes: list[int], keep: bool) -> ChannelPlace | None:
    """The same axis once others are gone."""
    if place.axis in axes:
        return None
    return place if keep else place._replace(axis=place.axis - sum(axis < place.axis for axis in axes))


def _reshaped(
    before: tuple[Any, ...], after: tuple[Any, ...], place: ChannelPlace, channels: int
) -> ChannelPlace | None:
    """The axis of the new shape on which a channel's values lie together as they did: as many values behind each."""
    behind = before[place.axis + 1 :]
    if not all(isinstance(side, int) for side in behind):
        return None
    values = place.inner * math.prod(behind)
    for axis, side in enumerate(after):
        rest = after[axis + 1 :]
        if not all(isinstance(other, int) for other in (side, *rest)) or side % channels:
            continue
        inner = side // channels
        if inner * math.prod(rest) == values:
            return ChannelPlace(axis, inner)
    return None


def _shape(node: Any) -> tuple[Any, ...]:
    return tuple(node.meta["val"].shape)
