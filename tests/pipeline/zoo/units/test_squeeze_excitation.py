"""Squeeze and excitation against its equations, written with matrices."""

import pytest
import torch
from torch import nn

from pipeline.zoo.units.activations import SiLU
from pipeline.zoo.units.inverted_residual import InvertedResidual
from pipeline.zoo.units.squeeze_excitation import SqueezeExcitation


@pytest.mark.parametrize("activation", [nn.ReLU, SiLU])
@pytest.mark.parametrize("shape", [(2, 8, 5, 7), (1, 8, 1, 1), (3, 8, 33, 2)])
def test_equations_2_to_4(activation: type[nn.Module], shape: tuple[int, ...]) -> None:
    """z = mean over H and W; s = σ(W₂ δ(W₁ z)); x̃ = s · x."""
    torch.manual_seed(0)
    unit, x = SqueezeExcitation(8, 3, activation), torch.randn(shape)
    with torch.no_grad():
        z = x.reshape(*shape[:2], -1).mean(-1)
        inside = z @ unit.fc1.weight.flatten(1).T + unit.fc1.bias
        inside = inside.clamp_min(0) if activation is nn.ReLU else inside / (1 + torch.exp(-inside))
        s = 1 / (1 + torch.exp(-(inside @ unit.fc2.weight.flatten(1).T + unit.fc2.bias)))
        torch.testing.assert_close(unit(x), x * s[..., None, None], rtol=1e-5, atol=1e-6)


def test_its_state_is_two_layers_with_biases() -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in SqueezeExcitation(16, 4).state_dict().items()}
    assert shapes == {
        "fc1.weight": (4, 16, 1, 1),
        "fc1.bias": (4,),
        "fc2.weight": (16, 4, 1, 1),
        "fc2.bias": (16,),
    }


def test_the_gate_only_weakens_and_keeps_signs() -> None:
    torch.manual_seed(0)
    unit, x = SqueezeExcitation(8, 2), torch.randn(4, 8, 6, 6)
    with torch.no_grad():
        y = unit(x)
    assert (y.abs() < x.abs()).all()
    assert (y.sign() == x.sign()).all()


def test_closed_gates_of_a_unit_leave_its_shortcut() -> None:
    """In an inverted residual: with every gate at 0 the projection of nothing is left beside the shortcut."""
    torch.manual_seed(0)
    unit, x = InvertedResidual(8, 8, 1, 6, reduction=4).eval(), torch.randn(2, 8, 5, 5)
    gate = next(module for module in unit.modules() if isinstance(module, SqueezeExcitation))
    assert (gate.fc1.in_channels, gate.fc1.out_channels) == (48, 12)
    with torch.no_grad():
        gate.fc2.bias.fill_(-1e4)
        assert torch.equal(unit(x), x)
