"""Randomized leaky ReLU, which has a fixed slope in evaluation mode.

::

    rrelu(x, lower, upper)   →   leaky_relu(x, (lower + upper) / 2)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.fx import Node

from pipeline.graphs.arguments import arguments_of

aten: Any = torch.ops.aten


def _rrelu(node: Node) -> nn.Module | None:
    """In evaluation the slope is the mean of its bounds."""
    _, lower, upper, training = arguments_of(node, None, 1 / 8, 1 / 3, False)
    return None if training else nn.LeakyReLU((float(lower) + float(upper)) / 2)


UNITS: dict[Any, Callable[[Node], nn.Module | None]] = {
    aten.rrelu.default: _rrelu,
}
