"""Ranges are widened where a kernel could not compute with them, and nowhere else."""

import pytest
import torch
from torch import nn

from calibration.kernel_limits import LARGEST_BIAS, LEAST_OF_A_SUM, MOST, fit_kernels
from calibration.quantize import find_ranges
from calibration.ranges import INPUT, Range
from calibration.recipe import Recipe

ALL = Range(-2.0, 2.0)


class Branch(nn.Module):
    """y + relu(conv(y)), y a convolution."""

    def __init__(self, bias: float) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)
        nn.init.constant_(self.second.bias, bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first(x)
        return y + torch.relu(self.second(y))


class Front(nn.Module):
    """The network where every front end has it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x)


def found(bias: float) -> tuple[torch.fx.GraphModule, dict[str, Range]]:
    torch.manual_seed(0)
    batch = torch.randn(8, 3, 6, 6)
    graph = torch.export.export(Front(Branch(bias)).eval(), (batch,)).module()
    return graph, find_ranges(graph, [batch], Recipe(), ALL).values


def scale(values: dict[str, Range], key: str) -> float:
    return values[key].qparams().scale


def test_a_network_that_computes_everywhere_stays_as_it_is() -> None:
    graph, values = found(0.1)
    assert fit_kernels(graph, Recipe(), values) == values
    assert {INPUT, "first:conv2d:0", "second:conv2d:0", "add:0"} <= {key.removeprefix(":") for key in values}


@pytest.mark.parametrize("bias", [-10.0, -1000.0, -1e5])
def test_behind_a_dead_relu(bias: float) -> None:
    """By hand: scale in · scale of the weights / scale out of the layer, and in / out of the sum, within bounds."""
    graph, values = found(bias)
    (total,) = (key for key in values if "add" in key)
    dead, source = scale(values, "second:conv2d:0"), scale(values, "first:conv2d:0")
    assert dead > 2**-24, "nothing but zeros was seen"
    assert values["second:conv2d:0"].low == 0
    weights = dict(graph.named_parameters())["network.second.weight"].detach().flatten(1).abs().amax(1) / 127
    assert source * float(weights.max()) / dead <= MOST
    assert dead / scale(values, total) >= LEAST_OF_A_SUM
    assert float((abs(bias) / (source * weights)).max()) <= LARGEST_BIAS


def test_the_input_is_never_widened() -> None:
    """Its range follows from the preprocessing; a layer's bias may ask for more in vain."""
    graph, values = found(0.1)
    with torch.no_grad():
        dict(graph.named_parameters())["network.first.bias"].fill_(1e12)
    assert fit_kernels(graph, Recipe(), values)[INPUT] == ALL
