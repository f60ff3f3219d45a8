"""The networks that an exported file is held against, and what they answer on the judged images."""

from __future__ import annotations

import copy
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.fx import GraphModule

from calibration.algorithms.layers import tensor_of
from calibration.algorithms.repairs import with_values
from calibration.float_operators import float_operators
from calibration.quantize import quantize
from calibration.ranges import QMAX, Ranges
from calibration.simulate import Simulator
from calibration.tensor_keys import NETWORK, WEIGHTED, in_network
from edge_apps.chatter import hushed
from pipeline.data.held_back import JudgedImages
from pipeline.exporting.float16 import half_logits
from pipeline.quantization.captured import Captured

COLLAPSED = 1e-3
"""A network whose logits vary over the images by less than this share of the largest one has collapsed."""

Logits = NDArray[np.float32]


class FloatAnswers:
    """Logits ``[N, K]`` of the float network on the judged images; each kind is computed when it is first asked for."""

    def __init__(self, captured: Captured, judged: JudgedImages) -> None:
        self.captured, self.judged = captured, judged

    @cached_property
    def float32(self) -> Logits:
        """Of the float network."""
        return self.captured.logits(self.captured.graph(), self.judged.pixels)

    @cached_property
    def float64(self) -> NDArray[np.float64]:
        """Of the float network, computed in double precision: what float32 and float16 lose can be told from it."""
        graph = copy.deepcopy(self.captured.graph()).double()  # a graph shares its parameters with the network
        batches = [batch.double() for batch in self.captured.batches(self.judged.pixels)]
        with torch.no_grad():
            return np.concatenate([graph(batch).numpy() for batch in batches])

    @cached_property
    def float16(self) -> Logits:
        """Of the float network in torch's own float16."""
        return half_logits(self.captured, self.judged.pixels)

    @cached_property
    def rounded_weights(self) -> Logits:
        """Of the float network with the weights of an int8-weights file."""
        return self.captured.logits(_with_rounded_weights(self.captured.graph()), self.judged.pixels)


class References:
    """Logits float32 ``[N, K]`` on the judged images; each kind is computed when it is first asked for.

    ``captured`` is the float network as files hold it, ``int8`` the same with the edits of the calibration; ``ranges``
    are None where no file is int8.
    """

    def __init__(
        self,
        captured: Captured,
        int8: Captured,
        ranges: Ranges | None,
        judged: JudgedImages,
        floats: FloatAnswers | None = None,
    ) -> None:
        self.captured, self.int8, self.ranges, self.judged = captured, int8, ranges, judged
        self.floats = floats or FloatAnswers(captured, judged)

    def with_int8(self, int8: Captured, ranges: Ranges) -> References:
        """Return the same float network, with all that is known of it, beside another int8 one."""
        return References(self.captured, int8, ranges, self.judged, self.floats)

    @property
    def float32(self) -> Logits:
        """As ``FloatAnswers`` has them."""
        return self.floats.float32

    @property
    def float64(self) -> NDArray[np.float64]:
        """As ``FloatAnswers`` has them."""
        return self.floats.float64

    @property
    def float16(self) -> Logits:
        """As ``FloatAnswers`` has them."""
        return self.floats.float16

    @property
    def rounded_weights(self) -> Logits:
        """As ``FloatAnswers`` has them."""
        return self.floats.rounded_weights

    @cached_property
    def quantized_graph(self) -> GraphModule:
        """The graph that int8 files are lowered from."""
        assert self.ranges is not None, "int8 was planned without calibration"
        with hushed():
            graph: GraphModule = quantize(self.int8.graph(), self.ranges, fold_weights=True)[0]
            return graph

    @cached_property
    def simulated(self) -> Logits:
        """Of the quantized graph, in integers as its files compute it."""
        with hushed():
            return self.int8.logits(Simulator(self.quantized_graph), self.judged.pixels)

    @cached_property
    def float_operators(self) -> tuple[str, ...]:
        """Operators of the quantized graph that compute in float."""
        return float_operators(self.quantized_graph)

    @cached_property
    def spread(self) -> float:
        """How far the float network's logits vary over the images, as a share of the largest of them."""
        logits = self.float32.astype(np.float64)
        largest = float(np.abs(logits).max())
        return float(np.ptp(logits, axis=0).max()) / largest if largest else 0.0

    @property
    def collapsed(self) -> bool:
        """Whether the network's answer hardly depends on the image, so that decibels mean nothing."""
        return len(self.judged) > 1 and self.spread < COLLAPSED


def _with_rounded_weights(graph: GraphModule) -> GraphModule:
    """Round every weight to int8 with one symmetric scale for each output channel; changes the graph."""
    rounded: dict[str, torch.Tensor] = {}
    for node in graph.graph.nodes:
        weight: Any = node.args[1] if node.target in WEIGHTED and in_network(node) else None
        if weight is not None and weight.op == "get_attr":
            name = str(weight.target).removeprefix(f"{NETWORK}.")
            values = tensor_of(graph, name)
            largest = values.abs().flatten(1).amax(1)
            scale = (torch.where(largest > 0, largest, 1.0) / QMAX).view(-1, *[1] * (values.dim() - 1))
            rounded[name] = (values / scale).round().clamp(-QMAX, QMAX) * scale
    return with_values(graph, {name: nn.Parameter(value, requires_grad=False) for name, value in rounded.items()})
