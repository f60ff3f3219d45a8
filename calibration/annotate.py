"""Our quantizer: which operators compute in int8, and the key of every tensor between them.

The same annotation serves twice. With observers it finds ranges; with ranges it fixes every scale. What is annotated
is what XNNPACK, LiteRT and Core ML can all run in int8, so that one graph can be lowered to each of them.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch.fx import GraphModule, Node
from torchao.quantization.pt2e import MinMaxObserver, PerChannelMinMaxObserver
from torchao.quantization.pt2e.observer import PartialWrapper
from torchao.quantization.pt2e.quantizer import (
    FixedQParamsQuantizationSpec,
    QuantizationAnnotation,
    QuantizationSpec,
    Quantizer,
)
from torchao.quantization.pt2e.quantizer.quantizer import Q_ANNOTATION_KEY

from calibration.errors import BadRecipe
from calibration.observers import make_observer
from calibration.ranges import INPUT, QMAX, QMIN, Ranges
from calibration.recipe import Recipe

aten = torch.ops.aten

WEIGHTED = {aten.conv2d.default, aten.linear.default}
ARITHMETIC = {aten.add.Tensor, aten.mean.dim}
FUSED_ACTIVATIONS = {
    aten.relu.default, aten.relu_.default, aten.relu6.default, aten.relu6_.default,
    aten.hardtanh.default, aten.hardtanh_.default,
}  # fmt: skip
# Operators that move or select values: int8 in, the same int8 out.
PASSING = {
    aten.flatten.using_ints, aten.view.default, aten.reshape.default, aten.permute.default,
    aten.dropout.default, aten.dropout_.default, aten.clone.default, aten.contiguous.default,
}  # fmt: skip

NETWORK = "network"
"""The attribute under which every front end holds the network; keys leave it out."""

SMALLEST_WEIGHT_SCALE = 2**-16
"""Keeps an all-zero channel's int32 bias (bias / (input scale · weight scale)) within 32 bits."""


class EdgeQuantizer(Quantizer):
    """Annotates convolution, linear, add and mean, with fused ReLU/ReLU6, for static int8.

    Activations: per-tensor asymmetric int8, one range per tensor whoever reads it. Weights: symmetric int8
    (−127…127), per output channel or per tensor. Biases stay float in the graph; every runtime makes them int32 with
    scale = input scale · weight scale.
    """

    def __init__(self, recipe: Recipe, ranges: Ranges | None = None) -> None:
        super().__init__()
        self.recipe = recipe
        self.ranges = ranges
        self.float_layers: list[str] = []
        # One spec object for each tensor: torchao watches a tensor once if its readers share the spec.
        self._specs: dict[str, QuantizationSpec | FixedQParamsQuantizationSpec] = {}

    def annotate(self, model: GraphModule) -> GraphModule:
        """Mark the graph's nodes; records which weighted layers stay in float."""
        keys = TensorKeys(model)
        for node in model.graph.nodes:
            if node.op != "call_function" or not in_network(node):
                continue  # the front end normalises in float: int8 would round the picture twice
            if self.recipe.keeps_float(module_path(node)):
                if node.target in WEIGHTED:
                    self.float_layers.append(module_path(node))
            elif node.target in WEIGHTED or node.target in ARITHMETIC:
                self._annotate_compute(node, keys)
            elif node.target in PASSING:
                self._annotate_passing(node, keys)
        self._check_exceptions(model)
        return model

    def validate(self, model: GraphModule) -> None:
        """Nothing to check: what cannot be quantized was not annotated."""

    def _annotate_compute(self, node: Node, keys: TensorKeys) -> None:
        inputs: dict[Node, Any] = {a: self._activation(keys.of(a)) for a in node.all_input_nodes if is_float(a)}
        if node.target in WEIGHTED:
            weight = node.args[1]
            assert isinstance(weight, Node)
            inputs[weight] = self._weight()
            if len(node.args) > 2 and isinstance(node.args[2], Node):
                inputs[node.args[2]] = None
        last = fused_activation(node)
        output = self._activation(keys.of(node))
        _mark(node, inputs, output if last is None else None)
        if last is not None:
            _mark(last, {}, output)

    def _annotate_passing(self, node: Node, keys: TensorKeys) -> None:
        source = node.all_input_nodes[0]
        # Only between int8 tensors: a reshape in a float region has nothing to pass on.
        if is_float(node) and keys.is_quantized(source, self.recipe):
            spec = self._activation(keys.of(node))
            _mark(node, {source: spec}, spec)

    def _activation(self, key: str) -> QuantizationSpec | FixedQParamsQuantizationSpec:
        if key not in self._specs:
            self._specs[key] = self._new_activation(key)
        return self._specs[key]

    def _new_activation(self, key: str) -> QuantizationSpec | FixedQParamsQuantizationSpec:
        if self.ranges is None:
            return QuantizationSpec(
                dtype=torch.int8,
                quant_min=QMIN,
                quant_max=QMAX,
                qscheme=torch.per_tensor_affine,
                observer_or_fake_quant_ctr=PartialWrapper(partial(make_observer, self.recipe, key)),
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


class TensorKeys:
    """Names every activation of a graph as ``module path:operator:output index``, whatever front end holds it.

    A tensor that only passes through (flatten, permute) keeps its producer's key; so does a fused activation, whose
    output is the tensor that its convolution produces. An operator that occurs again in the same module is counted
    (``features.3:add.2:0``). What the front end computes is the network's ``input``.
    """

    def __init__(self, model: GraphModule) -> None:
        self._keys: dict[Node, str] = {}
        self._computed: set[Node] = set()
        seen: dict[str, int] = {}
        for node in model.graph.nodes:
            if node.op != "call_function" or not in_network(node):
                self._keys[node] = INPUT
            elif node.target in PASSING or _is_fused(node):
                source = node.all_input_nodes[0]
                self._keys[node] = self._keys[source]
                if source in self._computed:
                    self._computed.add(node)
            else:
                name = f"{module_path(node)}:{_operator_name(node)}"
                seen[name] = seen.get(name, 0) + 1
                self._keys[node] = f"{name}.{seen[name]}:0" if seen[name] > 1 else f"{name}:0"
                if node.target in WEIGHTED | ARITHMETIC:
                    self._computed.add(node)

    def of(self, node: Node) -> str:
        """The key of the tensor that this node outputs."""
        return self._keys[node]

    def is_quantized(self, node: Node, recipe: Recipe) -> bool:
        """Whether the tensor comes, perhaps through a reshape, from an operator that computes in int8."""
        return node in self._computed and not recipe.keeps_float(self._keys[node].split(":")[0])


def module_path(node: Node) -> str:
    """The path of the network's module in which an operator was written (``features.3.conv.2``)."""
    return _raw_path(node).removeprefix(NETWORK).removeprefix(".")


def in_network(node: Node) -> bool:
    """Whether an operator belongs to the network, not to the front end around it."""
    path = _raw_path(node)
    return path == NETWORK or path.startswith(f"{NETWORK}.")


def _raw_path(node: Node) -> str:
    stack = list(node.meta.get("nn_module_stack", {}).values())
    path: str = stack[-1][0] if stack else ""
    return path.removeprefix("L['self']").removeprefix(".")


def _operator_name(node: Node) -> str:
    packet = getattr(node.target, "overloadpacket", node.target)
    return str(getattr(packet, "__name__", packet))


def _is_fused(node: Node) -> bool:
    source = node.all_input_nodes[0] if node.all_input_nodes else None
    return source is not None and source.target in WEIGHTED | ARITHMETIC and fused_activation(source) is node


def fused_activation(node: Node) -> Node | None:
    """The ReLU or ReLU6 that runs inside this operator: its only reader."""
    readers = list(node.users)
    if len(readers) == 1 and readers[0].op == "call_function" and readers[0].target in FUSED_ACTIVATIONS:
        return readers[0]
    return None


def is_float(node: Node) -> bool:
    """Whether the node's output is a floating-point tensor."""
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.is_floating_point() and node.op != "get_attr"


def _mark(node: Node, inputs: dict[Node, Any], output: Any) -> None:
    node.meta[Q_ANNOTATION_KEY] = QuantizationAnnotation(input_qspec_map=inputs, output_qspec=output, _annotated=True)
