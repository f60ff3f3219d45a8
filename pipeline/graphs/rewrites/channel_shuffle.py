"""Channel shuffles, written by name or by a view of five axes, as the unit of the zoo.

::

    view [N, g, C / g, H, W] → transpose(1, 2) → reshape [N, C, H, W]   →   ChannelShuffle
    channel_shuffle(x, g)                                               →   ChannelShuffle
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.fx import Node

from pipeline.graphs.patterns import Pattern, behind, is_call
from pipeline.graphs.shapes import shape_of
from pipeline.zoo.units.shuffle import ChannelShuffle

aten: Any = torch.ops.aten


def _channel_shuffle(node: Node) -> nn.Module | None:
    groups: Any = node.args[1]
    return ChannelShuffle(groups) if len(shape_of(node.args[0])) == 4 else None


def _written_shuffle(node: Node) -> tuple[nn.Module, Node, str] | None:
    """``x.view(n, g, c / g, h, w).transpose(1, 2).reshape(n, c, h, w)``."""
    turned: Any = behind(node.args[0], aten.contiguous.default, aten.clone.default)
    if not is_call(turned, aten.transpose.int) or {axis % 5 for axis in turned.args[1:3]} != {1, 2}:
        return None
    grouped = turned.args[0]
    if not is_call(grouped, aten.reshape.default) or len(shape_of(grouped)) != 5:
        return None
    source = grouped.args[0]
    shape, groups = shape_of(source), shape_of(grouped)
    whole = len(shape) == 4 and groups[1] * groups[2] == shape[1] and groups[3:] == shape[2:]
    return (ChannelShuffle(groups[1]), source, "channel_shuffle") if whole and shape_of(node) == shape else None


UNITS: dict[Any, Callable[[Node], nn.Module | None]] = {aten.channel_shuffle.default: _channel_shuffle}

PATTERNS: dict[Any, Pattern] = {aten.reshape.default: _written_shuffle}
