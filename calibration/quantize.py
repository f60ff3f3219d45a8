"""Prepare → calibrate → convert: one pass over the calibration images fixes every scale for every front end."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch.fx import GraphModule, Node
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

from calibration.annotate import WEIGHTED, EdgeQuantizer
from calibration.errors import BadCalibration
from calibration.observers import RangeObserver
from calibration.ranges import INPUT, QMAX, Range, Ranges
from calibration.recipe import Recipe


def find_ranges(
    graph: GraphModule, batches: Iterable[torch.Tensor], recipe: Recipe, input_range: Range
) -> dict[str, Range]:
    """Run the calibration batches through an observed copy of the graph and read every tensor's range.

    ``graph`` takes one batch; ``input_range`` is that of the normalised image, which follows from the preprocessing
    and is not calibrated.

    Raises:
        BadCalibration: no batch, or an activation that is NaN or infinite.
    """
    observed = prepare_pt2e(copy.deepcopy(graph), EdgeQuantizer(recipe))
    count = 0
    with torch.no_grad():
        for batch in batches:
            observed(batch)
            count += 1
    if count == 0:
        raise BadCalibration("Calibration got no images.")
    values: dict[str, Range] = {}
    for module in observed.modules():
        if isinstance(module, RangeObserver):
            # More than one tensor has this key only where concatenations share an input: one scale for them all.
            values[module.key] = _union(module.range(), values.get(module.key))
    values[INPUT] = input_range
    return values


def _union(one: Range, other: Range | None) -> Range:
    return one if other is None else Range(min(one.low, other.low), max(one.high, other.high))


def quantize(graph: GraphModule, ranges: Ranges, *, fold_weights: bool) -> tuple[GraphModule, tuple[str, ...]]:
    """Convert a captured graph to int8 with fixed scales; also returns the weighted layers left in float.

    ``fold_weights`` stores int8 weights (ExecuTorch, Core ML); without it weights stay float behind a
    quantize/dequantize pair, which is what LiteRT's converter takes.
    """
    quantizer = EdgeQuantizer(ranges.recipe, ranges)
    prepared = prepare_pt2e(copy.deepcopy(graph), quantizer)
    with torch.no_grad():
        _observe_weights(prepared)
        _round_parameters(prepared)
    converted: Any = convert_pt2e(prepared, fold_quantize=fold_weights)
    return converted, tuple(quantizer.float_layers)


def _observe_weights(prepared: GraphModule) -> None:
    """Let the weight observers see their weights. Activations need no image: their scales are fixed."""
    for node in prepared.graph.nodes:
        if node.op == "call_module" and node.all_input_nodes[0].op == "get_attr":
            weight = node.all_input_nodes[0].target
            prepared.get_submodule(node.target)(_attribute(prepared, str(weight)))


def _round_parameters(prepared: GraphModule) -> None:
    """Put weights on their int8 grid and biases on the int32 grid that all runtimes store them on.

    Converters that get float parameters round them by their own rules (LiteRT's rounds halves away from zero, torch
    to even), and the graph itself computes with float biases. Rounded here, once, there is nothing left to differ.
    A bias step is input scale · weight scale.
    """
    for node in prepared.graph.nodes:
        if node.target not in WEIGHTED or node.args[1].op != "call_module":
            continue  # no layer, or one that stays in float
        source, weight = node.args[:2]
        scale = _scale(prepared, weight)
        values = _attribute(prepared, str(weight.all_input_nodes[0].target)).data
        step = scale.view(-1, *[1] * (values.dim() - 1))
        values.copy_((values.double() / step).round().clamp(-QMAX, QMAX) * step)
        if len(node.args) > 2 and node.args[2] is not None:
            values = _attribute(prepared, str(node.args[2].target)).data
            step = _scale(prepared, source) * scale
            values.copy_((values.double() / step).round() * step)


def _scale(prepared: GraphModule, observer: Node) -> torch.Tensor:
    module: Any = prepared.get_submodule(str(observer.target))
    scale: torch.Tensor = module.calculate_qparams()[0]
    return scale.double()


def _attribute(root: Any, path: str) -> Any:
    for name in path.split("."):
        root = getattr(root, name)
    return root
