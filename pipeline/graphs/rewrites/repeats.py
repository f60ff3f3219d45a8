"""Repeated values along axes, as concatenations.

::

    repeat(x, (1, 1, 2))            →   cat(x, x)
    repeat_interleave(x, 2, axis)   →   cat(x[…, 0 : 1], x[…, 0 : 1], x[…, 1 : 2], …)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.fx import Node

from pipeline.graphs.arguments import arguments_of
from pipeline.graphs.picks import picks
from pipeline.graphs.shapes import shape_of

aten: Any = torch.ops.aten


def _repeat(node: Node) -> nn.Module | None:
    source, counts = arguments_of(node, None, None)
    shape = shape_of(source)
    if len(counts) != len(shape) or not all(isinstance(count, int) and count > 0 for count in counts):
        return None
    return picks([(axis, [*range(shape[axis])] * count) for axis, count in enumerate(counts) if count > 1])


def _repeat_interleave(node: Node) -> nn.Module | None:
    source, count, axis = arguments_of(node, None, None, None)
    if axis is None:
        return None  # of the flattened tensor
    axis %= len(shape_of(source))
    return picks([(axis, [i for i in range(shape_of(source)[axis]) for _ in range(count)])])


UNITS: dict[Any, Callable[[Node], nn.Module | None]] = {
    aten.repeat.default: _repeat,
    aten.tile.default: _repeat,
    aten.repeat_interleave.self_int: _repeat_interleave,
}
