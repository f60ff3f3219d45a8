"""A constant that is joined to values (the class token of a transformer) as one that is added to zeros.

::

    cat([token.expand(N, 1, C), x], 1)   →   pad(x, one row of zeros) + [token, 0, …, 0]

One concatenation has one int8 scale: that of x would clip a token with a wider range. Padded zeros pass in int8, and
the sum is in float like any sum with a constant.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.fx import Node

from pipeline.graphs.arguments import arguments_of
from pipeline.graphs.flat import FlatNetwork

aten: Any = torch.ops.aten

MOVED = {aten.expand.default, aten.expand_as.default, aten.repeat.default}


class Padded(nn.Module):
    """Zeros in front of and behind the values on an axis."""

    def __init__(self, axis: int, before: int, after: int) -> None:
        super().__init__()
        self.axis, self.before, self.after = axis, before, after

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[…, L, …]`` to ``[…, before + L + after, …]``."""
        return nn.functional.pad(x, [0, 0] * (x.dim() - 1 - self.axis) + [self.before, self.after])


class PaddedSum(Padded):
    """Constants in front of and behind the values on an axis."""

    def forward(self, x: torch.Tensor, constants: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """``[…, L, …]`` to ``[…, before + L + after, …]``."""
        return super().forward(x) + constants


def add_joined_constants(network: FlatNetwork) -> None:
    """Write concatenations of one tensor with constants as padding and a sum."""
    for node in network.nodes:
        if node.target == aten.cat.default:
            _add(network, node)
    network.clean()


def _add(network: FlatNetwork, node: Node) -> None:
    parts, axis = arguments_of(node, None, 0)
    sources = [_constant(network, part) for part in parts]
    rank = len(node.meta["val"].shape)
    axis %= rank
    moving = [index for index, source in enumerate(sources) if source is None]
    if len(moving) != 1 or len(parts) == 1:
        return
    (at,) = moving
    x = parts[at]
    lengths = [part.meta["val"].shape[axis] for part in parts]
    sides = [side if isinstance(side, int) else 1 for side in x.meta["val"].shape]
    if not all(isinstance(length, int) for length in lengths):
        return
    shapes = [[*sides[:axis], length, *sides[axis + 1 :]] for length in lengths]
    constants = [source for source in sources if source is not None]
    if not all(
        source is None or _broadcasts(network.constant(source), shape)
        for source, shape in zip(sources, shapes, strict=True)
    ):
        return

    def joined(*values: torch.Tensor) -> torch.Tensor:
        """Constants at their places, zeros where x goes, one for all images."""
        given = iter(values)
        shaped = [
            torch.zeros(sides) if source is None else next(given).expand(shape)
            for source, shape in zip(sources, shapes, strict=True)
        ]
        return torch.cat(shaped, axis)

    with torch.no_grad():
        value = joined(*[tensor for constant in constants if (tensor := network.constant(constant)) is not None])
    ends = (sum(lengths[:at]), sum(lengths[at + 1 :]))
    if all(map(network.is_fixed, constants)) and not value.any():
        network.replace(node, Padded(axis, *ends), x, "cat")
        return
    held = network.add_constant("joined", value, node)
    network.note(str(held.target), joined, constants)
    network.replace(node, PaddedSum(axis, *ends), [x, held], "cat")


def _constant(network: FlatNetwork, part: Node) -> Node | None:
    """The parameter that a part repeats for every image, or is."""
    source = part.args[0] if part.target in MOVED else part
    return source if isinstance(source, Node) and network.constant(source) is not None else None


def _broadcasts(value: torch.Tensor | None, shape: list[int]) -> bool:
    """Whether a constant is float and one for all images, of this shape or repeated to it."""
    if value is None or not value.is_floating_point() or value.dim() > len(shape):
        return False
    return all(side in (1, wanted) for side, wanted in zip(value.shape[::-1], shape[::-1], strict=False))
