"""``where`` and ``masked_fill`` as arithmetic, so that delegates take the choice.

::

    where(c, a, b)        →  a · m + b · (1 − m)     m = 1 where c holds, else 0
    masked_fill(x, c, v)  →  x · (1 − m) + v · m

XNNPACK has no SELECT: a mask that the network holds as a constant (of attention, of rows that are filled) would split a
`.pte` into two partitions. The products are exact, so the numbers stay the same wherever both sides are finite. A
choice that keeps an infinite side out (``where(x > 0, log(x), 0)``) stays as it is, and stays in float.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.fx import Node

from calibration.float_region import FloatRegion
from calibration.tensor_keys import PASSING, WEIGHTED
from pipeline.graphs.flat import FlatNetwork

aten: Any = torch.ops.aten

BOUNDED = {*WEIGHTED, aten.sigmoid.default, aten.tanh.default, aten.softmax.int, aten.batch_norm.default}
"""What these compute is finite, as far as the network is."""

KEEPING = {
    *PASSING, aten.add.Tensor, aten.add.Scalar, aten.sub.Tensor, aten.sub.Scalar, aten.mul.Tensor, aten.mul.Scalar,
    aten.neg.default, aten.abs.default, aten.cat.default, aten.mean.dim, aten.avg_pool2d.default,
    aten.adaptive_avg_pool2d.default, aten.silu.default, aten.gelu.default, aten.leaky_relu.default,
    aten.clamp.default, aten.clamp_min.default, aten.clamp_max.default,
}  # fmt: skip
"""What these compute is finite where their arguments are."""


class Choice(FloatRegion):
    """``a`` where the mask is 1, ``b`` where it is 0."""

    def forward(self, mask: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Shapes broadcast against each other; the mask is bool, or float with nothing but 0 and 1."""
        chosen = mask.to(a.dtype)
        return a * chosen + b * (1.0 - chosen)


class ChoiceOrNumber(FloatRegion):
    """``x`` where the mask is 0, a number where it is 1."""

    def __init__(self, number: float) -> None:
        super().__init__()
        self.number = number

    def forward(self, mask: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Shapes broadcast against each other; the mask is bool, or float with nothing but 0 and 1."""
        filled = mask.to(x.dtype)
        kept = x * (1.0 - filled)
        return kept + filled * self.number if self.number else kept


def blend_choices(network: FlatNetwork) -> None:
    """Rewrite every choice between two finite sides."""
    for node in network.nodes:
        if node.target in CHOICES:
            _rewrite(network, node)
    network.clean()


CHOICES = {
    aten.where.self, aten.where.ScalarOther, aten.where.ScalarSelf, aten.masked_fill.Scalar, aten.masked_fill.Tensor,
}  # fmt: skip


def _rewrite(network: FlatNetwork, node: Node) -> None:
    first, second, third = node.args
    is_filling = "masked_fill" in str(node.target)
    mask, chosen, other = (second, third, first) if is_filling else (first, second, third)
    sides = [_number(network, side) for side in (chosen, other)]
    if not all(_is_finite(network, side) for side in sides) or not isinstance(mask, Node):
        return
    chosen, other = sides
    if isinstance(chosen, Node) and isinstance(other, Node):
        if _dtype(chosen) == _dtype(other) == torch.float32:
            network.replace(node, Choice(), [mask, chosen, other], "where")
    elif isinstance(other, Node) and _dtype(other) == torch.float32:
        network.replace(node, ChoiceOrNumber(float(chosen)), [mask, other], "where")
    elif isinstance(chosen, Node) and _dtype(chosen) == torch.float32:
        inverted = network.add_call(aten.logical_not.default, (mask,), node)
        network.replace(node, ChoiceOrNumber(float(other)), [inverted, chosen], "where")


def _number(network: FlatNetwork, side: Any) -> Any:
    """A side that is a constant of one value, as that value."""
    constant = network.constant(side)
    return float(constant) if constant is not None and constant.numel() == 1 else side


def _dtype(node: Node) -> Any:
    value = node.meta.get("val")
    return value.dtype if isinstance(value, torch.Tensor) else None


def _is_finite(network: FlatNetwork, side: Any) -> bool:
    if not isinstance(side, Node):
        return math.isfinite(side)
    constant = network.constant(side)
    if constant is not None:
        return bool(torch.isfinite(constant).all())
    if side.op == "placeholder" or side.target in BOUNDED:
        return True
    if side.target in KEEPING or side.target in CHOICES:
        numbers = [value for value in side.args if isinstance(value, float)]
        return all(map(math.isfinite, numbers)) and all(_is_finite(network, node) for node in side.all_input_nodes)
    return side.op == "call_module" and all(_is_finite(network, node) for node in side.all_input_nodes)
