"""Runs a quantized graph with the integer arithmetic of XNNPACK, which computes ``.pte`` and ``.tflite`` alike."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.fx import Interpreter, Node

from calibration.annotate import BINARY, FUSED_ACTIVATIONS, LEAKY, WEIGHTED

aten = torch.ops.aten

EXACT_IN_FLOAT32 = 2**24
"""Whole numbers up to here, and sums that stay below it, are exact in float32."""


class Simulator(Interpreter):
    """The graph that ``quantize(…, fold_weights=True)`` gave, to the last bit as its files compute it.

    PT2E's graph multiplies real numbers and rounds at the end; a kernel sums whole numbers and scales them by one
    float32 factor, or by a fixed-point one. Wherever a value lies near the middle between two int8 steps the two may
    round differently, and deep networks blow such a single step up. So an operator between dequantize and quantize
    nodes is computed on integers q − zero point, by the rule of its kernel (XNNPACK ``src/microparams-init.c``):

    - convolution, linear, product and mean: ``round(float32(sum) · float32(scale))``, halves to even;
    - sum of two: multipliers of 21 bits, halves up; leaky ReLU: multipliers with 8 fractional bits, halves up.

    Everything else (sigmoid, float regions) is as the graph says.
    """

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """Logits ``[N, K]``."""
        with torch.no_grad():
            logits: torch.Tensor = self.run(batch)
        return logits

    def run_node(self, n: Node) -> Any:
        """One operator, on integers where its files compute it so; its result is a multiple of the output's scale."""
        output, kernel = _output_scale(n), KERNELS.get(n.target)
        if output is None or kernel is None or not all(map(_is_dequantized, _operands(n))):
            return super().run_node(n)
        arguments, keywords = self.fetch_args_kwargs_from_env(n)
        scales = [self._scale(operand) for operand in _operands(n)]
        # Only the int8 operands, as integers; a bias, if there is one, stays among the rest.
        count = len(scales)
        integers = [_integers(value, scale) for value, scale in zip(arguments[:count], scales, strict=True)]
        steps = kernel(n.target, integers, scales, torch.tensor(output), arguments[count:], keywords)
        return steps.float() * output

    def _scale(self, dequantize: Any) -> torch.Tensor:
        scale = dequantize.args[1]
        # Per tensor it is a number, per channel an attribute of the graph.
        value = self.fetch_attr(str(scale.target)) if isinstance(scale, Node) else torch.tensor(scale)
        return value.float()


def _weighted(
    target: Any,
    integers: list[torch.Tensor],
    scales: list[torch.Tensor],
    output: torch.Tensor,
    rest: Any,
    keywords: Any,
) -> torch.Tensor:
    """Convolution or linear layer; the bias is an int32 on the grid input scale · weight scale."""
    x, w = integers
    grid = scales[0] * scales[1]
    bias, *options = rest or (None,)
    reach = x.abs().max() * w.abs().flatten(1).sum(1).max()
    exact = x.dtype if reach < EXACT_IN_FLOAT32 else torch.float64
    sums = target(x.to(exact), w.to(exact), None, *options, **keywords).double()
    channels = (1, -1, *[1] * (sums.dim() - 2))
    if bias is not None:
        sums = sums + (bias.double() / (scales[0].double() * scales[1].double())).round().view(channels)
    scaled: torch.Tensor = sums.float() * (grid / output).view(channels if grid.dim() else ())
    return scaled.round()


def _product(
    _target: Any, integers: list[torch.Tensor], scales: list[torch.Tensor], output: torch.Tensor, *_rest: Any
) -> torch.Tensor:
    return (integers[0] * integers[1] * (scales[0] * scales[1] / output)).round()


def _sum(
    _target: Any, integers: list[torch.Tensor], scales: list[torch.Tensor], output: torch.Tensor, *_rest: Any
) -> torch.Tensor:
    ratios = [float(scale / output) for scale in scales]
    shift = 21 - math.frexp(max(ratios))[1]  # frexp's exponent is one above that of the leading bit
    one, other = (x.double() * round(math.ldexp(ratio, shift)) for x, ratio in zip(integers, ratios, strict=True))
    return torch.floor((one + other) / 2**shift + 0.5)


def _mean(
    _target: Any, integers: list[torch.Tensor], scales: list[torch.Tensor], output: torch.Tensor, rest: Any, _k: Any
) -> torch.Tensor:
    axes, *keep = rest
    count = math.prod(integers[0].shape[axis] for axis in axes)
    sums = integers[0].double().sum(axes, keepdim=bool(keep and keep[0])).float()
    steps: torch.Tensor = (sums * (scales[0] / output / count)).round()
    return steps


def _leaky(
    _target: Any, integers: list[torch.Tensor], scales: list[torch.Tensor], output: torch.Tensor, rest: Any, _k: Any
) -> torch.Tensor:
    ratio = float(scales[0] / output)
    slope = float(torch.tensor(rest[0] if rest else 0.01) * torch.tensor(ratio))
    multiplier = torch.where(integers[0] < 0, round(256 * slope), round(256 * ratio))
    steps: torch.Tensor = torch.floor(integers[0] * multiplier / 256 + 0.5)
    return steps


Kernel = Callable[..., torch.Tensor]

KERNELS: dict[Any, Kernel] = {
    **dict.fromkeys(WEIGHTED, _weighted),
    **{target: _product if "mul" in str(target) else _sum for target in BINARY},
    **dict.fromkeys(LEAKY, _leaky),
    aten.mean.dim: _mean,
}


def _operands(node: Node) -> tuple[Any, ...]:
    """The arguments that are int8 tensors: a layer's input and weight, both sides of a sum or product, one else."""
    return node.args[:2] if node.target in WEIGHTED | BINARY else node.args[:1]


def _integers(value: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """q − zero point of a dequantized tensor; a weight's scale may be one for each output channel."""
    return (value / scale.view(-1, *[1] * (value.dim() - 1))).round() if scale.dim() else (value / scale).round()


def _is_dequantized(argument: Any) -> bool:
    return isinstance(argument, Node) and "dequantize_per" in str(argument.target)


def _output_scale(node: Node) -> float | None:
    """Of the quantize node that takes an operator's result, perhaps through the activation fused with it."""
    readers = list(node.users)
    if len(readers) == 1 and readers[0].target in FUSED_ACTIVATIONS:
        readers = list(readers[0].users)
    scales = {reader.args[1] for reader in readers if "quantize_per_tensor" in str(reader.target)}
    return float(str(scales.pop())) if len(scales) == 1 == len(readers) else None
