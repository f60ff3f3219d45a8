"""The key of every tensor of a graph, and which of its operators compute in int8.

A key means the same under every front end, so that ranges found under one are used under all.
"""

from __future__ import annotations

import torch
from torch.fx import GraphModule, Node

from calibration.compat.torch import modules_around
from calibration.float_region import in_float_region
from calibration.ranges import INPUT
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

NETWORK = "network"
"""The attribute under which every front end holds the network; keys leave it out."""


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
