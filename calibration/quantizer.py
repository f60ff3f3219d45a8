"""Our quantizer: which operators compute in int8, and the key of every tensor between them.

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

from calibration.compat.torch import modules_around
from calibration.compat.torchao import annotate
from calibration.errors import BadRecipe
from calibration.float_region import in_float_region
from calibration.observers.observers import Bystander, Fixed, make_observer
from calibration.ranges import INPUT, QMAX, QMIN, Range, Ranges
from calibration.recipe import Recipe

aten = torch.ops.aten

WEIGHTED = {aten.conv2d.default, aten.linear.default}
SUMS = {aten.add.Tensor, aten.add_.Tensor}
PRODUCTS = {aten.mul.Tensor, aten.mul_.Tensor}
BINARY = SUMS | PRODUCTS
SIGMOID = aten.sigmoid.default
LEAKY = {aten.leaky_relu.default, aten.leaky_relu_.default}
ARITHMETIC = {*BINARY, *LEAKY, SIGMOID, aten.mean.dim}
CONCATENATION = aten.cat.default
FUSED_ACTIVATIONS = {
    aten.relu.default, aten.relu_.default, aten.relu6.default, aten.relu6_.default,
    aten.hardtanh.default, aten.hardtanh_.default,
}  # fmt: skip
# Operators that move or select values (or zero some): int8 in, int8 with the same scale out.
PASSING = {
    aten.flatten.using_ints, aten.view.default, aten.reshape.default, aten.permute.default, aten.transpose.int,
    aten.dropout.default, aten.dropout_.default, aten.clone.default, aten.contiguous.default,
    aten.slice.Tensor, aten.squeeze.dims, aten.squeeze.dim, aten.unsqueeze.default,
    aten.max_pool2d.default, aten.pad.default, aten.constant_pad_nd.default,
    *FUSED_ACTIVATIONS,  # one that follows no operator that it could be fused with
}  # fmt: skip

SIGMOID_RANGE = Range(0.0, 255 / 256)
"""Of a sigmoid's int8 output everywhere: scale 1/256, zero point −128. LiteRT takes no other."""

NETWORK = "network"
"""The attribute under which every front end holds the network; keys leave it out."""

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


class TensorKeys:
    """Names every activation of a graph as ``module path:operator:output index``, whatever front end holds it.

    A tensor that only passes through (flatten, permute, maximum pooling) keeps its producer's key; so does a fused
    activation, whose output is the tensor that its convolution produces. All that one concatenation joins has the
    key of its result, because no runtime rescales there. An operator that occurs again in the same module is counted
    (``features.3:add.2:0``). What the front end computes is the network's ``input``.
    """

    def __init__(self, model: GraphModule, recipe: Recipe) -> None:
        self._names: dict[Node, str] = {}
        self._joined: dict[str, str] = {}  # a name → that of a concatenation it shares its scale with
        self._parts: set[Node] = set()  # what some concatenation holds whole
        self._quantized: set[Node] = set()
        self._fused: set[Node] = set()
        seen: dict[str, int] = {}
        for node in model.graph.nodes:
            if node.op != "call_function" or not in_network(node):
                self._names[node] = INPUT  # the front end normalises in float: int8 would round the picture twice
                continue
            if node.target in PASSING:
                self._names[node] = self._names[node.all_input_nodes[0]]
            else:
                name = f"{module_path(node)}:{_operator_name(node)}"
                seen[name] = seen.get(name, 0) + 1
                self._names[node] = f"{name}.{seen[name]}:0" if seen[name] > 1 else f"{name}:0"
            if self._computes_in_int8(node, recipe):
                self._quantized.add(node)
                self._note(node)

    def of(self, node: Node) -> str:
        """The key of the tensor that this node outputs."""
        name = self._names[node]
        while name in self._joined:
            name = self._joined[name]
        return name

    def is_quantized(self, node: Node) -> bool:
        """Whether this operator's output is int8."""
        return node in self._quantized

    def is_fused(self, node: Node) -> bool:
        """Whether this activation runs inside the operator before it."""
        return node in self._fused

    def is_watched(self, node: Node) -> bool:
        """Whether calibration looks at this output: not where int8 values only pass through, or are seen joined."""
        only_passes = node.target in PASSING and node in self._quantized and node not in self._fused
        return not only_passes and node not in self._parts

    def _computes_in_int8(self, node: Node, recipe: Recipe) -> bool:
        if not is_float(node) or in_float_region(node) or (node.target == SIGMOID and is_answer(node)):
            return False
        sources = node.all_input_nodes
        if node.target in PASSING:
            # Only between int8 tensors: a reshape in a float region has nothing to pass on.
            return sources[0] in self._quantized
        if recipe.keeps_float(module_path(node)):
            return False
        if node.target in WEIGHTED:
            return True
        if node.target == CONCATENATION:
            # A float part (zeros that fill a shifted map) takes the scale that all share. The image has its own.
            return any(source in self._quantized for source in sources) and all(
                is_float(source) and self._names[source] != INPUT for source in sources
            )
        return node.target in ARITHMETIC and _joins_tensors(node) and any(s in self._quantized for s in sources)

    def _note(self, node: Node) -> None:
        if node.target == CONCATENATION:
            for source in node.all_input_nodes:
                self._join(self.of(source), self.of(node))
                if source.target not in PASSING or source in self._fused:
                    self._parts.add(source)
        elif node.target in WEIGHTED | ARITHMETIC and (last := fused_activation(node)) is not None:
            self._fused.add(last)

    def _join(self, name: str, own: str) -> None:
        if name != own:
            self._joined[name] = own


def module_path(node: Node) -> str:
    """The path of the network's module in which an operator was written (``features.3.conv.2``)."""
    return _raw_path(node).removeprefix(NETWORK).removeprefix(".")


def in_network(node: Node) -> bool:
    """Whether an operator belongs to the network, not to the front end around it."""
    path = _raw_path(node)
    return path == NETWORK or path.startswith(f"{NETWORK}.")


def _raw_path(node: Node) -> str:
    modules = modules_around(node)
    return modules[-1].path if modules else ""


def _joins_tensors(node: Node) -> bool:
    """Not with a number or a constant: runtimes have no int8 form of that which keeps the constant exact."""
    operands = node.args[:2] if node.target in BINARY else node.args[:1]
    return all(isinstance(operand, Node) and is_float(operand) for operand in operands)


def _operator_name(node: Node) -> str:
    packet = getattr(node.target, "overloadpacket", node.target)
    return str(getattr(packet, "__name__", packet))


def fused_activation(node: Node) -> Node | None:
    """The ReLU or ReLU6 that runs inside this operator: its only reader."""
    readers = list(node.users)
    if len(readers) == 1 and readers[0].op == "call_function" and readers[0].target in FUSED_ACTIVATIONS:
        return readers[0]
    return None


def is_answer(node: Node) -> bool:
    """Return whether no layer and no gate reads what follows from a node: it is part of what the network answers.

    A gate is a product, but not one of probabilities alone (that of a class with that of its group). A sigmoid of the
    answer stays in float. In int8 it would give 0 or 1 to every class that the network is sure of, and which of them
    is the surest could not be told.
    """
    seen: set[Node] = set()
    left = list(node.users)
    while left:
        reader = left.pop()
        if reader.target in WEIGHTED or _is_gate(reader):
            return False
        if reader not in seen:
            seen.add(reader)
            left.extend(reader.users)
    return True


def _is_gate(node: Node) -> bool:
    is_product = node.target in PRODUCTS and _joins_tensors(node)
    return is_product and not all(_is_probability(operand) for operand in node.all_input_nodes)


def _is_probability(node: Node) -> bool:
    while node.target in PASSING:
        node = node.all_input_nodes[0]
    return node.target in (SIGMOID, aten.softmax.int)


def is_float(node: Node) -> bool:
    """Whether the node's output is a floating-point tensor."""
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.is_floating_point() and node.op != "get_attr"
