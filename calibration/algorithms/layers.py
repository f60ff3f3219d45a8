"""What the repairs look at: a captured graph's convolution and linear layers, their tensors, and what they output."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import GraphModule, Interpreter, Node

from calibration.axes import channels_last
from calibration.compat.torch import begin, drop_spent
from calibration.tensor_keys import NETWORK, WEIGHTED, module_path

aten = torch.ops.aten

HARDTANH = (-1.0, 1.0)
"""What it clamps to where the graph says nothing."""


@dataclass(frozen=True)
class Layer:
    """A convolution or linear layer.

    ``weight`` and ``bias`` are the names of its tensors in the network; None where there is none, or where another
    operator reads it too, so that a repair may not edit it.
    """

    node: Node
    weight: str | None
    bias: str | None

    @property
    def has_bias(self) -> bool:
        """Whether it adds one, its own or not."""
        return _argument(self.node, 2) is not None

    @property
    def is_convolution(self) -> bool:
        """Otherwise it is linear."""
        return self.node.target == aten.conv2d.default

    @property
    def groups(self) -> int:
        """Of its channels; 1 for a linear layer."""
        return int(_argument(self.node, 6) or 1)

    @property
    def path(self) -> str:
        """Of its module."""
        return module_path(self.node)

    @property
    def window(self) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
        """Of a convolution: stride, padding and dilation, each down and across."""
        stride, padding, dilation = (_pair(_argument(self.node, i), default) for i, default in ((3, 1), (4, 0), (5, 1)))
        return stride, padding, dilation

    def rows(self, output: torch.Tensor) -> torch.Tensor:
        """Its output (or input) as ``[positions, channels]``."""
        last = channels_last(self.node.target, output)
        return last.reshape(-1, last.shape[-1])


def layers_of(graph: GraphModule) -> list[Layer]:
    """In the order of execution, which is that of the same graph when quantized."""
    readers = Counter(
        str(argument.target) for node in graph.graph.nodes for argument in node.args if _is_tensor(argument)
    )
    nodes = [node for node in graph.graph.nodes if node.target in WEIGHTED]
    return [Layer(node, _own(node, 1, readers), _own(node, 2, readers)) for node in nodes]


def tensor_of(graph: GraphModule, name: str) -> torch.Tensor:
    """A tensor by its name in the network."""
    found: Any = graph
    for part in (NETWORK, *name.split(".")):
        found = getattr(found, part)
    return torch.as_tensor(found).detach()


def bounds_of(activation: Node | None) -> tuple[float, float]:
    """What a ReLU, ReLU6 or hardtanh clamps to; infinite without one."""
    if activation is None:
        return -math.inf, math.inf
    if activation.target in (aten.relu.default, aten.relu_.default):
        return 0.0, math.inf
    if activation.target in (aten.relu6.default, aten.relu6_.default):
        return 0.0, 6.0
    given = [float(str(bound)) for bound in activation.args[1:]]
    low, high = [*given, *HARDTANH[len(given) :]]
    return low, high


def evenly(batches: Sequence[torch.Tensor], most: int) -> list[torch.Tensor]:
    """At most so many of the pictures, spread over all of them (they lie class by class), in batches as before."""
    pictures = torch.cat(list(batches))
    chosen = pictures[torch.linspace(0, len(pictures) - 1, min(most, len(pictures))).round().long()]
    return list(torch.split(chosen, max(len(batch) for batch in batches)))


Look = Callable[[Node, torch.Tensor, torch.Tensor], None]


def watch(graph: GraphModule, batches: Sequence[torch.Tensor], look: Look) -> None:
    """Run the batches through the graph; ``look(layer, input, output)`` sees outputs before their activation."""
    with torch.no_grad():
        for batch in batches:
            _Watched(graph, look).run(batch)


class _Watched(Interpreter):
    def __init__(self, graph: GraphModule, look: Look) -> None:
        super().__init__(graph)
        self.look = look

    def run_node(self, n: Node) -> Any:
        value = super().run_node(n)
        if n.target in WEIGHTED:
            self.look(n, self.env[n.all_input_nodes[0]], value)
        return value


class Walk:
    """A graph run on all batches at once, operator by operator.

    So a layer can be changed before anything sees its output, and nothing is computed twice for what follows.
    """

    def __init__(self, graph: GraphModule, batches: Sequence[torch.Tensor], interpreter: type[Interpreter]) -> None:
        self.graph = graph
        self._runs = [interpreter(graph) for _ in batches]
        for run, batch in zip(self._runs, batches, strict=True):
            begin(run, batch)
        self._constants: set[Node] = set()

    def layers(self) -> Iterator[Node]:
        """Each convolution and linear layer when its turn has come; what is changed by then counts."""
        for node in self.graph.graph.nodes:
            if node.target in WEIGHTED:
                yield node
            self._step(node)

    def values(self, node: Node) -> list[torch.Tensor]:
        """What an operator gave, batch by batch."""
        return [run.env[node] for run in self._runs]

    def constant(self, node: Node) -> torch.Tensor:
        """A tensor of the graph's own."""
        found: torch.Tensor = self._runs[0].fetch_attr(str(node.target))
        return found.detach()

    def outputs(self, node: Node) -> Iterator[torch.Tensor]:
        """What the operator whose turn it is would give, batch by batch."""
        for run in self._runs:
            with torch.no_grad():
                yield run.run_node(node)

    def replace(self, node: Node, value: torch.Tensor) -> None:
        """From here on, another value of a constant."""
        for run in self._runs:
            run.env[node] = value

    def _step(self, node: Node) -> None:
        constant = node.op == "get_attr" or (bool(node.args) and self._constants.issuperset(node.all_input_nodes))
        if constant:  # weights: once, not for each batch
            self._constants.add(node)
        with torch.no_grad():
            for number, run in enumerate(self._runs):
                first = self._runs[0]
                run.env[node] = first.env[node] if constant and number else run.run_node(node)
        for run in self._runs:
            drop_spent(run, node)


def _is_tensor(argument: Any) -> bool:
    return isinstance(argument, Node) and argument.op == "get_attr"


def _own(node: Node, index: int, readers: Counter[str]) -> str | None:
    argument = _argument(node, index)
    if not _is_tensor(argument) or readers[str(argument.target)] > 1:
        return None
    name = str(argument.target)
    return name.removeprefix(f"{NETWORK}.") if name.startswith(f"{NETWORK}.") else None


def _argument(node: Node, index: int) -> Any:
    return node.args[index] if len(node.args) > index else None


def _pair(argument: Any, default: int) -> tuple[int, int]:
    values = [default] if argument is None else argument
    return int(values[0]), int(values[-1])
