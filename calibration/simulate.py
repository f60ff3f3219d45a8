"""Runs a quantized graph with the sums that integer arithmetic makes."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Interpreter, Node

from calibration.annotate import WEIGHTED


class Simulator(Interpreter):
    """The graph that ``quantize(…, fold_weights=True)`` gave, as every runtime is meant to compute it.

    PT2E's graph multiplies real numbers: its float32 sums differ from int32 accumulators in the last bits, and
    wherever a sum lies near the middle between two int8 values one of them rounds the other way. Deep networks blow
    such a single step up. So a layer between dequantize nodes is summed over integers, which float32 holds exactly
    up to 2^24 (larger sums lose their last bit), and scaled in float64.
    """

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """Logits ``[N, K]``."""
        with torch.no_grad():
            logits: torch.Tensor = self.run(batch)
        return logits

    def run_node(self, n: Node) -> Any:
        """A weighted layer on integers; everything else as the graph says."""
        if n.target not in WEIGHTED or not all(_is_dequantized(a) for a in n.args[:2]):
            return super().run_node(n)
        source, weight = n.args[:2]
        (x, w, *rest), keywords = self.fetch_args_kwargs_from_env(n)
        bias = rest[0] if rest else None
        input_scale, weight_scale = self._scale(source), self._scale(weight)
        steps = weight_scale.view(-1, *[1] * (w.dim() - 1))
        integers = (x / input_scale.float()).round(), (w / steps.float()).round()
        assert callable(n.target)
        sums = n.target(*integers, None, *rest[1:], **keywords)
        channels = (1, -1, *[1] * (sums.dim() - 2))
        real = sums.double() * (input_scale * weight_scale).view(channels)
        return (real if bias is None else real + bias.double().view(channels)).float()

    def _scale(self, dequantize: Any) -> torch.Tensor:
        scale = dequantize.args[1]
        # Per tensor it is a number, per channel an attribute of the graph.
        value = self.fetch_attr(str(scale.target)) if isinstance(scale, Node) else torch.tensor([scale])
        return value.double()


def _is_dequantized(argument: Any) -> bool:
    return isinstance(argument, Node) and "dequantize_per" in str(argument.target)
