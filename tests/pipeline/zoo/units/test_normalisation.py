"""Local response normalisation, against the paper's formula written out and against torch's."""

import pytest
import torch
from torch import nn

from pipeline.zoo.units.normalisation import LocalResponseNorm


@pytest.mark.parametrize(("channels", "size", "alpha", "k"), [(9, 5, 1e-4, 2.0), (4, 3, 0.5, 1.0), (3, 9, 0.1, 0.5)])
def test_the_formula_of_the_paper(channels: int, size: int, alpha: float, k: float) -> None:
    """b_i = a_i / (k + α Σ a_j²)^β, j from max(0, i − n/2) to min(N − 1, i + n/2): α is not divided by n."""
    x = 3 * torch.randn(2, channels, 3, 4)
    y = LocalResponseNorm(channels, size, alpha, k)(x)
    a = x.double()
    for i in range(channels):
        near = a[:, max(0, i - size // 2) : min(channels - 1, i + size // 2) + 1]
        expected = a[:, i] / (k + alpha * (near**2).sum(1)) ** 0.75
        assert torch.allclose(y[:, i].double(), expected, atol=1e-5)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7])
def test_torch_divides_alpha_by_the_window(size: int) -> None:
    x = torch.relu(5 * torch.randn(2, 12, 5, 5))
    expected = nn.LocalResponseNorm(size, size * 0.02, 0.75, 1.5)(x)
    assert torch.allclose(LocalResponseNorm(12, size, 0.02, 1.5)(x), expected, atol=1e-5)


def test_it_learns_nothing_and_stores_nothing() -> None:
    layer = LocalResponseNorm(8)
    assert not layer.state_dict()
    assert not list(layer.parameters())


def test_gradients_are_those_of_the_formula() -> None:
    x = torch.rand(1, 6, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(LocalResponseNorm(6, 3, 0.5, 2.0).double(), (x,))


def test_its_numbers_show() -> None:
    assert repr(LocalResponseNorm(8, 3, 0.001, 2)) == "LocalResponseNorm(channels=8, size=3, alpha=0.001, k=2)"
