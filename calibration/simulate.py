"""Runs a quantized graph with the integer arithmetic of XNNPACK, which computes ``.pte`` and ``.tflite`` alike."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.fx import Interpreter, Node

from calibration.axes import by_channel
from calibration.tensor_keys import BINARY, FUSED_ACTIVATIONS, LEAKY, PRODUCTS, SUMS, WEIGHTED

aten = torch.ops.aten

EXACT_IN_FLOAT32 = 2**24
"""Whole numbers up to here, and sums that stay below it, are exact in float32."""


class Simulator(Interpreter):
    """The graph that ``quantize(…, fold_weights=True)`` gave, to the last bit as its files compute it.

    PT2E's graph multiplies real numbers and rounds at the end; a kernel sums whole numbers and scales them by one
    float32 factor, or by a fixed-point one. Wherever a value lies near the middle between two int8 steps the two may
    round differently, and deep networks blow such a single step up. So an operator between dequantize and quantize
    nodes is computed on integers q − zero point, by the rule of its kernel (XNNPACK ``src/microparams-init.c``):

    - convolution, linear, product: ``round(float32(sum) · float32(scale))``, halves to even; a mean, of Σ q, then less
      its zero point;
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
        output, kernel = _output(n), KERNELS.get(n.target)
        if output is None or kernel is None or not all(map(_is_dequantized, _operands(n))):
            return super().run_node(n)
        arguments, keywords = self.fetch_args_kwargs_from_env(n)
        int8 = [self._operand(node, value) for node, value in zip(_operands(n), arguments, strict=False)]
        # What is left of the arguments: a bias, strides, axes, a slope.
        steps = kernel(n.target, int8, output, arguments[len(int8) :], keywords)
        return steps.float() * output.scale

    def _operand(self, dequantize: Any, value: torch.Tensor) -> Operand:
        scale, zero_point = dequantize.args[1:3]
        if isinstance(scale, Node):  # per channel: attributes of the graph, weights without a zero point
            scales: torch.Tensor = self.fetch_attr(str(scale.target)).float()
            return Operand((value / scales.view(-1, *[1] * (value.dim() - 1))).round(), scales, 0)
        return Operand((value / scale).round(), torch.tensor(scale), int(zero_point))


class Output(NamedTuple):
    """Scale and zero point that a result is quantized with."""

    scale: torch.Tensor
    zero_point: int


class Operand(NamedTuple):
    """An int8 tensor: its integers q − zero point, and its scale (of a weight, perhaps one for each output channel)."""

    integers: torch.Tensor
    scale: torch.Tensor
    zero_point: int


def _weighted(target: Any, int8: list[Operand], output: Output, rest: Any, keywords: Any) -> torch.Tensor:
    """Convolution or linear layer; the bias is an int32 on the grid input scale · weight scale."""
    (x, input_scale, _), (w, weight_scale, _) = int8
    bias, *options = rest or (None,)
    reach = x.abs().max() * w.abs().flatten(1).sum(1).max()
    exact = x.dtype if reach < EXACT_IN_FLOAT32 else torch.float64
    sums = target(x.to(exact), w.to(exact), None, *options, **keywords).double()
    channels = by_channel(target)
    if bias is not None:
        sums = sums + (bias.double() / (input_scale.double() * weight_scale.double())).round().view(channels)
    factor = input_scale * weight_scale / output.scale
    scaled: torch.Tensor = sums.float() * (factor.view(channels) if factor.dim() else factor)
    return scaled.round()


def _product(_target: Any, int8: list[Operand], output: Output, *_rest: Any) -> torch.Tensor:
    one, other = int8
    return (one.integers * other.integers * (one.scale * other.scale / output.scale)).round()


def _sum(_target: Any, int8: list[Operand], output: Output, *_rest: Any) -> torch.Tensor:
    ratios = [float(operand.scale / output.scale) for operand in int8]
    shift = 21 - math.frexp(max(ratios))[1]  # frexp's exponent is one above that of the leading bit
    one, other = (
        operand.integers.double() * round(math.ldexp(ratio, shift)) for operand, ratio in zip(int8, ratios, strict=True)
    )
    return torch.floor((one + other) / 2**shift + 0.5)


def _mean(_target: Any, int8: list[Operand], output: Output, rest: Any, _keywords: Any) -> torch.Tensor:
    """Zero points come in after scaling and before rounding: which way a half goes depends on that."""
    ((integers, scale, zero_point),) = int8
    axes, *keep = rest
    count = math.prod(integers.shape[axis] for axis in axes)
    sums = integers.double().sum(axes, keepdim=bool(keep and keep[0])) + count * zero_point
    factor = (scale / output.scale) * (torch.tensor(1.0) / count)
    offset = output.zero_point - zero_point * count * factor
    steps: torch.Tensor = (sums.float() * factor + offset).round() - output.zero_point
    return steps


def _leaky(_target: Any, int8: list[Operand], output: Output, rest: Any, _keywords: Any) -> torch.Tensor:
    ((integers, scale, _),) = int8
    ratio = float(scale / output.scale)
    slope = float(torch.tensor(rest[0] if rest else 0.01) * torch.tensor(ratio))
    multiplier = torch.where(integers < 0, round(256 * slope), round(256 * ratio))
    steps: torch.Tensor = torch.floor(integers * multiplier / 256 + 0.5)
    return steps


Kernel = Callable[..., torch.Tensor]

KERNELS: dict[Any, Kernel] = {
    **dict.fromkeys(WEIGHTED, _weighted),
    **dict.fromkeys(SUMS, _sum),
    **dict.fromkeys(PRODUCTS, _product),
    **dict.fromkeys(LEAKY, _leaky),
    aten.mean.dim: _mean,
}


def _operands(node: Node) -> tuple[Any, ...]:
    """The arguments that are int8 tensors: a layer's input and weight, both sides of a sum or product, one else."""
    return node.args[:2] if node.target in WEIGHTED | BINARY else node.args[:1]


def _is_dequantized(argument: Any) -> bool:
    return isinstance(argument, Node) and "dequantize_per" in str(argument.target)


def _output(node: Node) -> Output | None:
    """Of the quantize node that takes an operator's result, perhaps through the activation fused with it."""
    readers = list(node.users)
    if len(readers) == 1 and readers[0].target in FUSED_ACTIVATIONS:
        readers = list(readers[0].users)
    found = {reader.args[1:3] for reader in readers if "quantize_per_tensor" in str(reader.target)}
    if not len(found) == 1 == len(readers):
        return None
    scale, zero_point = found.pop()
    return Output(torch.tensor(float(str(scale))), int(str(zero_point)))
