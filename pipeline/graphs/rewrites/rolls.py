"""Values moved along axes, those that leave at the end coming in at the front, as two slices and a concatenation.

::

    roll(x, 3, axis)   →   cat(x[…, −3:], x[…, :−3])
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


def _roll(node: Node) -> nn.Module | None:
    source, shifts, axes = arguments_of(node, None, None, [])
    shape = shape_of(source)
    shifts = [shifts] if isinstance(shifts, int) else shifts
    if not axes:
        return None  # of the flattened tensor
    turned = [(axis % len(shape), shift) for axis, shift in zip(axes, shifts, strict=True)]
    return picks([(axis, [(i - shift) % shape[axis] for i in range(shape[axis])]) for axis, shift in turned])


UNITS: dict[Any, Callable[[Node], nn.Module | None]] = {aten.roll.default: _roll}
