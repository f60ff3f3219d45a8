"""Sigmoids that end in a concatenation, rescaled to its int8 scale by a convolution.

::

    sigmoid(x) → cat   →   sigmoid(x) → depthwise 1×1 conv2d (weight 1) → cat
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.fx import Node

from calibration.tensor_keys import PASSING, is_answer
from pipeline.graphs.rewrites.ceil_mode import OverhangingMaximum, maximum
from pipeline.graphs.shapes import shape_of
from pipeline.graphs.units import ChannelScale

aten: Any = torch.ops.aten


def _sigmoid(node: Node) -> nn.Module | None:
    """One that is joined with others is rescaled: its int8 scale is fixed, that of a concatenation is another.

    A convolution does it, to the bit as its simulation. Of two scales in a row ExecuTorch makes a conversion, but
    LiteRT's converter none: it takes the first for the concatenation, and fails. Where the joined sigmoids are what the
    network answers, they stay in float.
    """
    shape = shape_of(node)
    if len(shape) not in (2, 4) or not _is_joined(node) or is_answer(node):
        return None
    return nn.Sequential(nn.Sigmoid(), ChannelScale(torch.ones(shape[1]), torch.zeros(shape[1])))


def _is_joined(node: Node) -> bool:
    """Whether a tensor ends in a concatenation, that of ``OverhangingMaximum`` included."""
    return any(
        reader.target == aten.cat.default
        or (reader.target == aten.max_pool2d.default and isinstance(maximum(reader), OverhangingMaximum))
        or (reader.target in PASSING and _is_joined(reader))
        for reader in node.users
    )


UNITS: dict[Any, Callable[[Node], nn.Module | None]] = {aten.sigmoid.default: _sigmoid}
