"""Ranges that kernels can compute with.

XNNPACK and LiteRT scale sums by fixed-point numbers, and refuse a file whose scales are too far apart. That happens
where calibration saw nothing: behind a ReLU that no picture passed every value is 0, and so would the scale be.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from operator import attrgetter
from typing import Any

import torch
from torch.fx import GraphModule, Node

from calibration.quantizer import SMALLEST_WEIGHT_SCALE
from calibration.ranges import INPUT, QMAX, QMIN, Range
from calibration.recipe import Recipe
from calibration.tensor_keys import (
    CONCATENATION,
    LEAKY,
    PASSING,
    PRODUCTS,
    SIGMOID,
    SUMS,
    WEIGHTED,
    TensorKeys,
    is_float,
)

# XNNPACK's bounds (src/subgraph/*.c), halved or doubled: a scale that is rounded to float32 must not cross one.
MOST = 2.0**7
"""Of input scale / output scale; for a layer or a product, of the product of its two scales / output scale."""

LARGEST_BIAS = 2.0**30
"""Steps of input scale · weight scale: it is an int32."""

LEAST_OF_A_SUM, LEAST_OF_A_PRODUCT, LEAST_OF_ONE = 2.0**-9, 2.0**-15, 2.0**-7
"""Of the same for a sum's input, for a product, and for a mean or a leaky ReLU."""


def fit_kernels(graph: GraphModule, recipe: Recipe, values: Mapping[str, Range]) -> dict[str, Range]:
    """The same ranges, those widened whose scale some kernel could not compute with. Ranges are never narrowed.

    Nearly always nothing changes. A wider range loses steps that the kernel could not have used.
    """
    keys = TensorKeys(graph, recipe)
    nodes = [node for node in graph.graph.nodes if keys.is_quantized(node)]
    fixed = {INPUT, *(keys.of(node) for node in nodes if node.target == SIGMOID)}
    scales = {key: value.qparams().scale for key, value in values.items()}
    raised: set[str] = set()
    changes = True
    while changes:  # each raises a scale to a bound that another scale sets; what cannot rise ends the chain
        changes = False
        for node in nodes:
            for key, least in _least_scales(node, keys, scales):
                if key not in fixed and scales[key] < least:
                    scales[key], changes = 1.01 * least, True
                    raised.add(key)
    return {key: _widened(value, scales[key]) if key in raised else value for key, value in values.items()}


def _least_scales(node: Node, keys: TensorKeys, scales: Mapping[str, float]) -> Iterator[tuple[str, float]]:
    """What the scales of an operator's tensors must not be below, as those of its other tensors are now."""
    if node.target in PASSING or node.target in (CONCATENATION, SIGMOID):
        return
    result = keys.of(node)
    inputs = [keys.of(source) for source in node.args[:2] if isinstance(source, Node) and is_float(source)]
    if node.target in WEIGHTED:
        weights = _weight_scales(node)
        yield result, scales[inputs[0]] * float(weights.max()) / MOST
        yield inputs[0], float((_biases(node).abs() / weights).max()) / LARGEST_BIAS
    elif node.target in PRODUCTS:
        one, other = inputs
        yield result, scales[one] * scales[other] / MOST
        yield one, scales[result] * LEAST_OF_A_PRODUCT / scales[other]
        yield other, scales[result] * LEAST_OF_A_PRODUCT / scales[one]
    else:
        least = LEAST_OF_A_SUM if node.target in SUMS else LEAST_OF_ONE
        most = MOST / 2 if node.target in LEAKY else MOST
        for source in inputs:
            yield result, scales[source] / most
            yield source, scales[result] * least


def _weight_scales(layer: Node) -> torch.Tensor:
    """Of each output channel; one for all of them is the largest."""
    weight = _tensor(layer, 1).flatten(1)
    return (weight.abs().amax(1) / QMAX).clamp(min=SMALLEST_WEIGHT_SCALE)


def _biases(layer: Node) -> torch.Tensor:
    has_bias = len(layer.args) > 2 and layer.args[2] is not None
    return _tensor(layer, 2) if has_bias else torch.zeros(1)


def _tensor(layer: Node, argument: int) -> torch.Tensor:
    parameter: Any = layer.args[argument]
    found: torch.Tensor = attrgetter(str(parameter.target))(layer.graph.owning_module)
    return found.detach()


def _widened(value: Range, scale: float) -> Range:
    """As wide as 255 steps, upwards."""
    low, high = min(value.low, 0.0), max(value.high, 0.0)
    return Range(low, max(high, low + scale * (QMAX - QMIN)))
