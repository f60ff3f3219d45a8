"""Between which numbers the values of a network's output lie, whatever the image: interval arithmetic over its graph.

It knows the operators that heads are written with, and stops at every other one (a layer gives any value).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.export import ExportedProgram
from torch.fx import Node

from calibration.algorithms.layers import bounds_of
from calibration.tensor_keys import FUSED_ACTIVATIONS

aten: Any = torch.ops.aten


class Interval(NamedTuple):
    """All values that a tensor can have lie in it."""

    low: float
    high: float


ANY = Interval(-math.inf, math.inf)
UNIT = Interval(0.0, 1.0)

LARGEST_EXPONENT = 700.0
"""Of e, in float64."""

SIGMOIDS = {
    aten.sigmoid.default, aten.sigmoid_.default, aten.special_expit.default,
    aten.hardsigmoid.default, aten.hardsigmoid_.default,
}  # fmt: skip
SOFTMAXES = {aten.softmax.int, aten._softmax.default, aten._safe_softmax.default}

KEEPING = {
    aten.flatten.using_ints, aten.view.default, aten.reshape.default, aten._unsafe_view.default, aten.permute.default,
    aten.transpose.int, aten.squeeze.default, aten.squeeze.dim, aten.squeeze.dims, aten.unsqueeze.default,
    aten.slice.Tensor, aten.select.int, aten.expand.default, aten.clone.default, aten.contiguous.default,
    aten.alias.default, aten.detach.default, aten.to.dtype, aten.to.dtype_layout, aten.to.device,
    aten._to_copy.default, aten.dropout.default, aten.dropout_.default, aten.type_as.default,
}  # fmt: skip
"""Operators that move, select or convert values."""

CLAMPS = {aten.clamp.default, aten.clamp_.default, aten.clamp_min.default, aten.clamp_min_.default}

AVERAGING = {aten.mean.dim, aten.mean.default, aten.amax.default, aten.amin.default, aten.adaptive_avg_pool2d.default}
"""Operators whose results lie between their inputs."""


def output_bounds(program: ExportedProgram) -> Interval:
    """Return the bounds of the one output of a network."""
    return _Bounds().of(output_node(program))


def output_node(program: ExportedProgram) -> Any:
    """Return the node of a network's one output."""
    name = program.graph_signature.user_outputs[0]
    return next((node for node in program.graph.nodes if node.name == name), None)


class _Bounds:
    """The bounds of nodes, each computed once."""

    def __init__(self) -> None:
        self._known: dict[Node, Interval] = {}

    def of(self, value: Any) -> Interval:
        """Return the bounds of a node's values, or of a number."""
        if isinstance(value, (int, float)):
            return Interval(float(value), float(value))
        if not isinstance(value, Node) or value.op != "call_function":
            return ANY
        if value not in self._known:
            self._known[value] = self._computed(value)
        return self._known[value]

    def _computed(self, node: Node) -> Interval:
        target = node.target
        if target in SIGMOIDS or target in SOFTMAXES:
            return UNIT
        if target in KEEPING or target in AVERAGING:
            return self.of(node.args[0])
        if target in (aten.cat.default, aten.stack.default):
            parts = [self.of(part) for part in node.args[0]]  # type: ignore[union-attr]
            return Interval(min(part.low for part in parts), max(part.high for part in parts))
        if target in FUSED_ACTIVATIONS or target in CLAMPS:
            source, limits = self.of(node.args[0]), _limits(node)
            return Interval(*(min(max(bound, limits.low), limits.high) for bound in source))
        if target in ARITHMETIC and not node.kwargs:
            return _finite(ARITHMETIC[target](*[self.of(argument) for argument in node.args[:2]]))
        return ANY


def _limits(node: Node) -> Interval:
    """Return what a ReLU or clamp puts values between; a limit that is a tensor, or absent, counts as none."""
    if node.target in FUSED_ACTIVATIONS:
        return Interval(*bounds_of(node))
    given = [*node.args[1:], None, None][:2]
    return Interval(
        *(limit if isinstance(limit, (int, float)) else none for limit, none in zip(given, ANY, strict=True))
    )


def _add(one: Interval, other: Interval) -> Interval:
    return Interval(one.low + other.low, one.high + other.high)


def _negative(one: Interval) -> Interval:
    return Interval(-one.high, -one.low)


def _product(one: Interval, other: Interval) -> Interval:
    corners = [0.0 if 0 in (a, b) else a * b for a in one for b in other]
    return Interval(min(corners), max(corners))


def _inverse(one: Interval) -> Interval:
    """Return the bounds of 1 / x; any value where x may be 0 or have either sign."""
    return Interval(1 / one.high, 1 / one.low) if one.low > 0 or one.high < 0 else ANY


def _exponential(one: Interval) -> Interval:
    return Interval(*(math.exp(bound) if bound < LARGEST_EXPONENT else math.inf for bound in one))


def _finite(found: Interval) -> Interval:
    return ANY if math.isnan(found.low) or math.isnan(found.high) else found


ARITHMETIC: dict[Any, Callable[..., Interval]] = {
    **dict.fromkeys((aten.add.Tensor, aten.add_.Tensor, aten.add.Scalar), _add),
    **dict.fromkeys((aten.sub.Tensor, aten.sub_.Tensor, aten.sub.Scalar), lambda a, b: _add(a, _negative(b))),
    aten.rsub.Scalar: lambda a, b: _add(b, _negative(a)),
    **dict.fromkeys((aten.mul.Tensor, aten.mul_.Tensor, aten.mul.Scalar), _product),
    **dict.fromkeys((aten.div.Tensor, aten.div_.Tensor, aten.div.Scalar), lambda a, b: _product(a, _inverse(b))),
    aten.reciprocal.default: _inverse,
    aten.neg.default: _negative,
    aten.exp.default: _exponential,
    aten.tanh.default: lambda _: Interval(-1.0, 1.0),
}
"""By operator: the bounds of its result from those of its operands."""
