"""int8 as training sees it: values rounded onto their grids, and gradients that pass as if they had not been."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch.fx import GraphModule, Node
from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e

from calibration.quantizer import SMALLEST_WEIGHT_SCALE, EdgeQuantizer
from calibration.ranges import QMAX, QMIN, QParams, Ranges
from calibration.tensor_keys import WEIGHTED


def fake_quantize(graph: GraphModule, ranges: Ranges) -> GraphModule:
    """A copy of a captured graph that rounds where ``quantize`` will: the same tensors, by the same annotation.

    Gradients pass rounding unchanged and end where a value was clipped (the straight-through estimator; Bengio,
    Léonard and Courville, "Estimating or Propagating Gradients Through Stochastic Neurons", 2013; for int8 networks
    Jacob et al., "Quantization and Training of Neural Networks", 2018, section 3). Ranges of activations are constants;
    the scales of weights and biases follow the weights.
    """
    quantizer: Any = EdgeQuantizer(ranges.recipe, ranges)
    prepared: GraphModule = prepare_pt2e(copy.deepcopy(graph), quantizer)
    per_channel = ranges.recipe.weights == "per-channel"
    for node in prepared.graph.nodes:
        if node.op == "call_module":
            prepared.set_submodule(str(node.target), _rounding(prepared, node, per_channel))
    for node in prepared.graph.nodes:
        if node.target in WEIGHTED and node.args[1].op == "call_module":
            _round_bias(prepared, node)
    prepared.recompile()
    return prepared


class ActivationRounding(nn.Module):
    """Asymmetric int8 with a fixed scale and zero point."""

    def __init__(self, qparams: QParams) -> None:
        super().__init__()
        self.scale, self.zero_point = qparams

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The nearest of the 256 values."""
        return torch.fake_quantize_per_tensor_affine(x, self.scale, self.zero_point, QMIN, QMAX)


class WeightRounding(nn.Module):
    """Symmetric int8 with scale max |w| / 127, of each output channel or of the whole weight."""

    def __init__(self, per_channel: bool) -> None:
        super().__init__()
        self.per_channel = per_channel

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """The nearest multiples of the scale; none is clipped."""
        scales = self.scales(weight)
        zeros = torch.zeros(len(scales), dtype=torch.int32, device=weight.device)
        return torch.fake_quantize_per_channel_affine(weight, scales, zeros, 0, -QMAX, QMAX)

    def scales(self, weight: torch.Tensor) -> torch.Tensor:
        """One for each output channel, all equal per tensor."""
        largest = weight.detach().flatten(1).abs().amax(1)
        if not self.per_channel:
            largest = largest.max().expand(len(largest))
        return (largest / QMAX).clamp(min=SMALLEST_WEIGHT_SCALE)


class BiasRounding(nn.Module):
    """int32 with scale input scale · weight scale."""

    def __init__(self, source: ActivationRounding, weights: WeightRounding) -> None:
        super().__init__()
        self.input_scale = source.scale
        self.weights = weights

    def forward(self, bias: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """The nearest multiples of the scale, which follows from the float weight."""
        values = bias.detach().double()
        step = self.input_scale * self.weights.scales(weight).double()
        return bias + ((values / step).round() * step - values).float()


def _rounding(prepared: GraphModule, node: Node, per_channel: bool) -> nn.Module:
    """What takes the place of an observer; only weights are observed right where they are read."""
    if node.all_input_nodes[0].op == "get_attr":
        return WeightRounding(per_channel)
    observer: Any = prepared.get_submodule(str(node.target))
    if isinstance(observer, ActivationRounding):  # one for each tensor, however many read it
        return observer
    scale, zero_point = observer.calculate_qparams()
    return ActivationRounding(QParams(float(scale), int(zero_point)))


def _round_bias(prepared: GraphModule, layer: Node) -> None:
    source, weight, bias = (*layer.args, None)[:3]
    if not isinstance(bias, Node):
        return
    assert isinstance(source, Node)
    assert isinstance(weight, Node)
    modules: Any = [prepared.get_submodule(str(node.target)) for node in (source, weight)]
    name = f"{layer.name}_bias_rounding"
    prepared.add_submodule(name, BiasRounding(*modules))
    with prepared.graph.inserting_before(layer):
        rounded = prepared.graph.call_module(name, (bias, weight.args[0]))
    layer.update_arg(2, rounded)
