"""What becomes of a network that computes in float16, shown in torch where its fp16 file cannot be run (Core ML).

Float16 holds magnitudes up to 65,504. A network whose activations exceed that in float32 gets infinity there, and
whatever follows from infinity.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.fx import GraphModule, Interpreter, Node

from calibration.tensor_keys import module_path
from pipeline.quantization.captured import Captured, answers

LARGEST = float(torch.finfo(torch.float16).max)


@dataclass(frozen=True)
class Overflow:
    """The first operator or constant of a network whose values float16 cannot hold.

    Attributes:
        path: The module path in the network (``features.3.conv``); empty for the network itself and the normalisation
            in front of it.
        operator: The operator (``conv2d``), or the name of the parameter (``weight``).
        largest: The largest finite magnitude among its values on the images, computed in float32.
    """

    path: str
    operator: str
    largest: float

    def __str__(self) -> str:
        """Return one clause for a message: ``conv2d in '3.a' reaches 1.2e+05``."""
        place = f" in '{self.path}'" if self.path else ""
        return f"{self.operator}{place} reaches {self.largest:.2g}, and float16 ends at {LARGEST:,.0f}"


def overflow(captured: Captured, images: NDArray[np.uint8]) -> Overflow | None:
    """Return the first operator, in the order of execution, whose float32 result exceeds float16's range; else None.

    Every operator and every floating-point parameter of the graph is looked at, on every image. An overflow need not
    change the answers (−1e9 in a mask before a softmax does not): ``half_logits`` shows whether it does. Sums inside
    one operator (the variance of a layer normalisation) are not seen.

    Args:
        captured: The network as devices get it.
        images: Raw RGB bytes uint8 ``[N, H, W, 3]``, as ``Captured.logits`` takes them.
    """
    graph = captured.graph()
    seen: dict[Node, float] = {}

    def look(node: Node, value: torch.Tensor) -> torch.Tensor:
        finite = value[torch.isfinite(value)]
        largest = float(finite.abs().max()) if finite.numel() else 0.0
        seen[node] = max(seen.get(node, 0.0), largest)
        return value

    captured.logits(_Through(graph, look), images)
    first = next((node for node in graph.graph.nodes if seen.get(node, 0.0) > LARGEST), None)
    return None if first is None else Overflow(*_name(first), seen[first])


def half_logits(captured: Captured, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the logits ``[N, K]`` of the same graph in float16; infinite or NaN where values overflow.

    Parameters and the result of every operator are rounded to float16, and each operator computes in float32. Torch's
    own float16 kernels sum in float32 too, but not every operator has one on every CPU, and this is the same on all.
    """
    return answers(_Through(captured.graph(), _rounded), captured.batches(images))


def _rounded(_node: Node, value: torch.Tensor) -> torch.Tensor:
    return value.half().to(value.dtype)


class _Through(Interpreter):
    """Runs a graph and puts every floating-point result through a function."""

    def __init__(self, graph: GraphModule, change: Callable[[Node, torch.Tensor], torch.Tensor]) -> None:
        super().__init__(graph)
        self._change = change

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.run(batch)
        return logits

    def run_node(self, n: Node) -> Any:
        value = super().run_node(n)
        if n.op == "output":
            return value
        if isinstance(value, (tuple, list)):
            return type(value)(self._seen(n, part) for part in value)
        return self._seen(n, value)

    def _seen(self, node: Node, value: Any) -> Any:
        is_float = isinstance(value, torch.Tensor) and value.is_floating_point()
        return self._change(node, value) if is_float else value


def _name(node: Node) -> tuple[str, str]:
    """Return the path and the name of an operator, or of a parameter, which has no module path of its own."""
    if node.op == "get_attr":
        path, _, name = str(node.target).removeprefix("network.").rpartition(".")
        return path, name
    packet = getattr(node.target, "overloadpacket", node.target)
    return module_path(node), str(getattr(packet, "__name__", packet))
