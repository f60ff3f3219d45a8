"""A float network in which one operator computes in int8: how much of the loss is that operator's own."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.fx import GraphModule, Interpreter, Node

from calibration.ranges import QMAX, QMIN, QParams, Ranges
from calibration.tensor_keys import PASSING, WEIGHTED, TensorKeys, fused_activation, is_float, module_path
from edge_apps.runtime.device import usable_cores
from edge_apps.threads import in_threads
from pipeline.compat.torch import overwrites
from pipeline.evaluation.inference import one_thread_inside
from pipeline.metrics.sqnr import sqnr_db, storable
from pipeline.quantization.captured import BATCH, split


@dataclass(frozen=True, eq=False)
class Operator:
    """What int8 files compute in integers: a layer, or an operator between layers.

    result: the node that outputs its tensor, which is the activation fused with it, if there is one. qparams: of that
    tensor. inputs: its tensors with theirs. parameters: of a layer, weight and bias as the files hold them.
    weight_steps: its int8 weights. affected: what is computed after it from its result, in order.
    """

    node: Node
    result: Node
    qparams: QParams
    inputs: dict[Node, QParams]
    parameters: dict[Node, torch.Tensor]
    weight_steps: NDArray[np.int8] | None
    affected: tuple[Node, ...]

    @property
    def path(self) -> str:
        """The path of the module in which it was written."""
        return module_path(self.node)

    @property
    def name(self) -> str:
        """As torch calls it: ``conv2d``, ``linear``, ``add``."""
        return str(self.node.target).split(".")[1].rstrip("_")

    @property
    def is_layer(self) -> bool:
        """Whether it has weights, and so can be kept in float by its path."""
        return self.weight_steps is not None


class OneByOne(Interpreter):
    """Runs a float graph once per batch, and for each operator again from where that operator's rounding is felt.

    ``graph`` is the float graph that ``quantized`` (``quantize(…, fold_weights=True)``) was made of with ``ranges``, or
    that graph before its weights were rounded: an operator has those of ``quantized``.
    An operator alone in int8 has its inputs, parameters and result on the grids that they have in the files; it
    multiplies and sums in float, which differs from integers in the last bits only. ``batch`` is how many pictures to
    give at a time.
    """

    def __init__(self, graph: GraphModule, quantized: GraphModule, ranges: Ranges) -> None:
        super().__init__(graph, garbage_collect_values=False)
        output = next(node for node in graph.graph.nodes if node.op == "output")
        self._logits: Node = output.all_input_nodes[0]
        first = next(node for node in graph.graph.nodes if node.op == "placeholder").meta["val"].shape[0]
        self.batch = first if isinstance(first, int) else BATCH
        self.operators = tuple(_operators(graph, quantized, ranges))
        self._seen: dict[Node, Any] = {}

    def see(self, batch: torch.Tensor) -> None:
        """Compute every tensor of a batch in float."""
        with torch.no_grad():
            self.run(batch)
        self._seen = self.env

    def logits(self) -> NDArray[np.float32]:
        """Of the batch, in float: ``[N, K]``."""
        return self.result_of(self._logits)

    def result_of(self, node: Node) -> NDArray[np.float32]:
        """What a node outputs in float for the batch."""
        values: NDArray[np.float32] = self._seen[node].numpy()
        return values

    def logits_with(self, operator: Operator) -> NDArray[np.float32]:
        """Of the batch, with one operator in int8: ``[N, K]``."""
        inputs = {node: _rounded(self._seen[node], qparams) for node, qparams in operator.inputs.items()}
        with torch.no_grad():
            self.env = {**self._seen, **inputs, **operator.parameters}
            self.env = {**self._seen, operator.node: self.run_node(operator.node)}
            if operator.result is not operator.node:
                self.env[operator.result] = self.run_node(operator.result)
            self.env[operator.result] = _rounded(self.env[operator.result], operator.qparams)
            for node in operator.affected:
                self.env[node] = self.run_node(node)
        logits: NDArray[np.float32] = self.env[self._logits].numpy()
        return logits

    def run_node(self, n: Node) -> Any:
        """One operator; what would write into its argument gets a copy, because tensors are used again."""
        if not overwrites(n.target):
            return super().run_node(n)
        arguments, keywords = self.fetch_args_kwargs_from_env(n)
        return self.call_function(n.target, (arguments[0].clone(), *arguments[1:]), keywords)


def _operators(graph: GraphModule, quantized: GraphModule, ranges: Ranges) -> Iterator[Operator]:
    keys = TensorKeys(graph, ranges.recipe)
    layers = (node for node in quantized.graph.nodes if node.target in WEIGHTED)
    for node in graph.graph.nodes:
        same = next(layers) if node.target in WEIGHTED else None  # both graphs have the same layers in the same order
        if not keys.is_quantized(node) or keys.is_fused(node) or node.target in PASSING:
            continue
        last = fused_activation(node)
        result = last if last is not None and keys.is_fused(last) else node
        parameters: dict[Node, torch.Tensor] = {}
        steps = None
        if same is not None:
            parameters, steps = _parameters(node, same, quantized)
        yield Operator(
            node=node,
            result=result,
            qparams=ranges.qparams(keys.of(result)),
            inputs={source: ranges.qparams(keys.of(source)) for source in node.all_input_nodes if is_float(source)},
            parameters=parameters,
            weight_steps=steps,
            affected=_after(result),
        )


def _parameters(
    node: Node, quantized_node: Node, quantized: GraphModule
) -> tuple[dict[Node, torch.Tensor], NDArray[np.int8]]:
    """Weight and bias of a float graph's layer as its quantized form has them, and the weight's int8 steps."""
    pairs = zip(node.args[1:3], quantized_node.args[1:3], strict=True)
    values = {own: _constant(quantized, other) for own, other in pairs if isinstance(own, Node)}
    dequantize = quantized_node.args[1]
    assert isinstance(dequantize, Node)
    return values, _constant(quantized, dequantize.args[0]).numpy()


def _constant(graph: GraphModule, node: Any) -> torch.Tensor:
    """The value of a node that depends on no input."""
    interpreter = Interpreter(graph)
    interpreter.env = {source: _constant(graph, source) for source in node.all_input_nodes}
    with torch.no_grad():
        value: torch.Tensor = interpreter.run_node(node)
    return value.detach()


def _after(node: Node) -> tuple[Node, ...]:
    """All that is computed from a node's output, in the order of the graph; without the graph's own output."""
    reached = {node}
    found = []
    following = node.next
    while following.op != "root":
        if following.op == "call_function" and not reached.isdisjoint(following.all_input_nodes):
            reached.add(following)
            found.append(following)
        following = following.next
    return tuple(found)


def _rounded(values: torch.Tensor, qparams: QParams) -> torch.Tensor:
    return torch.fake_quantize_per_tensor_affine(values, qparams.scale, qparams.zero_point, QMIN, QMAX)


@dataclass(frozen=True)
class Alone:
    """Logits ``[N, K]``: of the float network, and of it with each of the operators in int8."""

    floating: NDArray[np.float32]
    operators: tuple[Operator, ...]
    with_one: tuple[NDArray[np.float32], ...]

    def decibels(self) -> list[float]:
        """SQNR of each operator's logits."""
        return [storable(sqnr_db(self.floating, logits)) for logits in self.with_one]

    def ranking(self) -> dict[str, float]:
        """Layers by their paths with dB, the most damaging first; of one path's several operators, the worst counts."""
        found: dict[str, float] = {}
        for operator, decibels in zip(self.operators, self.decibels(), strict=True):
            if operator.is_layer:
                found[operator.path] = min(decibels, found.get(operator.path, math.inf))
        return dict(sorted(found.items(), key=lambda item: item[1]))


def one_by_one(walk: OneByOne, pixels: NDArray[np.uint8], advance: Callable[[int], None]) -> Alone:
    """Compute the logits of pictures uint8 ``[N, H, W, 3]`` with each operator alone in int8."""
    batches = split(pixels, walk.batch)
    walks: SimpleQueue[OneByOne] = SimpleQueue()
    threads = min(usable_cores(), len(batches))
    for _ in range(threads):
        walks.put(copy.copy(walk))

    def work(batch: torch.Tensor) -> list[NDArray[np.float32]]:
        own = walks.get()
        try:
            own.see(batch)
            return [own.logits(), *(own.logits_with(operator) for operator in walk.operators)]
        finally:
            walks.put(own)

    found = []
    with one_thread_inside():
        for answered, batch in zip(in_threads(work, batches, threads), batches, strict=True):
            found.append(answered)
            advance(len(batch))
    floating, *with_one = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return Alone(floating, walk.operators, tuple(with_one))


def most_damaged_layer(walk: OneByOne, pixels: NDArray[np.uint8]) -> tuple[str, float] | None:
    """Return the layer whose rounding alone changes the logits of images uint8 ``[N, H, W, 3]`` most, and their dB.

    Leaves only layers in ``walk``; None where there is none in int8.
    """
    walk.operators = tuple(operator for operator in walk.operators if operator.is_layer)
    return next(iter(one_by_one(walk, pixels, lambda _: None).ranking().items()), None)
