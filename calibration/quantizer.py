"""Our quantizer: the annotation by which torchao prepares and converts a graph.

The same annotation serves twice. With observers it finds ranges; with ranges it fixes every scale. What is annotated
is what XNNPACK, LiteRT and Core ML can all run in int8, so that one graph can be lowered to each of them.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch.fx import GraphModule, Node
from torchao.quantization.pt2e import MinMaxObserver, PartialWrapper, PerChannelMinMaxObserver
from torchao.quantization.pt2e.quantizer import (
    FixedQParamsQuantizationSpec,
    QuantizationSpec,
    Quantizer,
)

from calibration.compat.torchao import annotate
from calibration.errors import BadRecipe
from calibration.observers.observers import Bystander, Fixed, make_observer
from calibration.ranges import QMAX, QMIN, Range, Ranges
from calibration.recipe import Recipe
from calibration.tensor_keys import PASSING, SIGMOID, WEIGHTED, TensorKeys, fused_activation, is_float, module_path

SIGMOID_RANGE = Range(0.0, 255 / 256)
"""Of a sigmoid's int8 output everywhere: scale 1/256, zero point −128. LiteRT takes no other."""

SMALLEST_WEIGHT_SCALE = 2**-16
"""Keeps an all-zero channel's int32 bias (bias / (input scale · weight scale)) within 32 bits."""


class EdgeQuantizer(Quantizer):
    """Annotates convolution, linear, arithmetic and what passes values on, with fused ReLU/ReLU6, for static int8.

    Activations: per-tensor asymmetric int8, one range per tensor whoever reads it. Weights: symmetric int8
    (−127…127), per output channel or per tensor. Biases stay float in the graph; every runtime makes them int32 with
    scale = input scale · weight scale. Operators that no runtime has in int8 (square roots) stay in float, and so does
    arithmetic between their results.
    """

    def __init__(self, recipe: Recipe, ranges: Ranges | None = None) -> None:
        super().__init__()
        self.recipe = recipe
        self.ranges = ranges
        self.float_layers: list[str] = []
        # One spec object for each tensor: torchao watches a tensor once if its readers share the spec.
        self._specs: dict[Node, QuantizationSpec | FixedQParamsQuantizationSpec] = {}

    def annotate(self, model: GraphModule) -> GraphModule:
        """Mark the graph's nodes; records which weighted layers stay in float."""
        keys = TensorKeys(model, self.recipe)
        for node in model.graph.nodes:
            if node.op == "call_function" and node.target in WEIGHTED and self.recipe.keeps_float(module_path(node)):
                self.float_layers.append(module_path(node))
            if not keys.is_quantized(node):
                continue
            if node.target in PASSING and not keys.is_fused(node):
                self._annotate_passing(node, keys)
            elif not keys.is_fused(node):
                self._annotate_compute(node, keys)
        self._check_exceptions(model)
        return model

    def validate(self, model: GraphModule) -> None:
        """Nothing to check: what cannot be quantized was not annotated."""

    def _annotate_compute(self, node: Node, keys: TensorKeys) -> None:
        inputs: dict[Node, Any] = {a: self._activation(a, keys) for a in node.all_input_nodes if is_float(a)}
        if node.target in WEIGHTED:
            weight = node.args[1]
            assert isinstance(weight, Node)
            inputs[weight] = self._weight()
            if len(node.args) > 2 and isinstance(node.args[2], Node):
                inputs[node.args[2]] = None
        last = fused_activation(node)
        annotate(node, inputs, self._activation(node, keys) if last is None else None)
        if last is not None:
            annotate(last, {}, self._activation(last, keys))

    def _annotate_passing(self, node: Node, keys: TensorKeys) -> None:
        source = node.all_input_nodes[0]
        annotate(node, {source: self._activation(source, keys)}, self._activation(node, keys))

    def _activation(self, node: Node, keys: TensorKeys) -> QuantizationSpec | FixedQParamsQuantizationSpec:
        if node not in self._specs:
            self._specs[node] = self._new_activation(node, keys)
        return self._specs[node]

    def _new_activation(self, node: Node, keys: TensorKeys) -> QuantizationSpec | FixedQParamsQuantizationSpec:
        key = keys.of(node)
        if self.ranges is None:
            return QuantizationSpec(
                dtype=torch.int8,
                quant_min=QMIN,
                quant_max=QMAX,
                qscheme=torch.per_tensor_affine,
                observer_or_fake_quant_ctr=PartialWrapper(self._observer(node, keys)),
            )
        scale, zero_point = self.ranges.qparams(key)
        return FixedQParamsQuantizationSpec(
            dtype=torch.int8,
            scale=scale,
            zero_point=zero_point,
            quant_min=QMIN,
            quant_max=QMAX,
            qscheme=torch.per_tensor_affine,
        )

    def _observer(self, node: Node, keys: TensorKeys) -> partial[Any]:
        if node.target == SIGMOID:
            return partial(Fixed.make, keys.of(node), SIGMOID_RANGE)
        if keys.is_watched(node):
            return partial(make_observer, self.recipe, keys.of(node))
        return partial(Bystander.make)

    def _weight(self) -> QuantizationSpec:
        per_channel = self.recipe.weights == "per-channel"
        observer = PerChannelMinMaxObserver if per_channel else MinMaxObserver
        return QuantizationSpec(
            dtype=torch.int8,
            quant_min=-QMAX,
            quant_max=QMAX,
            qscheme=torch.per_channel_symmetric if per_channel else torch.per_tensor_symmetric,
            ch_axis=0 if per_channel else None,
            observer_or_fake_quant_ctr=observer.with_args(eps=SMALLEST_WEIGHT_SCALE),
        )

    def _check_exceptions(self, model: GraphModule) -> None:
        layers = [module_path(n) for n in model.graph.nodes if n.op == "call_function" and n.target in WEIGHTED]
        for pattern in self.recipe.float_layers:
            if not any(Recipe(float_layers=(pattern,)).keeps_float(layer) for layer in layers):
                shown = ", ".join([*layers[:3], "…", layers[-1]])
                raise BadRecipe(f"float_layers pattern '{pattern}' matches no layer. Layers: {shown}.")
