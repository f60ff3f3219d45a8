"""Stochastic depth: what is kept, what is dropped, and that the mean stays."""

import pytest
import torch

from pipeline.zoo.units.stochastic_depth import StochasticDepth


def test_eval_mode_and_probability_0_do_nothing() -> None:
    x = torch.randn(3, 2, 4, 4)
    assert StochasticDepth(0.9).eval()(x) is x
    assert StochasticDepth(0.0)(x) is x


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.8])
def test_whole_images_are_dropped_and_the_mean_stays(probability: float) -> None:
    torch.manual_seed(0)
    images = 20_000
    y = StochasticDepth(probability)(torch.ones(images, 2, 1, 3))
    first = y[:, 0, 0, 0]
    assert torch.equal(y, first.view(-1, 1, 1, 1).expand_as(y))
    assert {0.0, round(1 / (1 - probability), 4)} == {round(v, 4) for v in first.tolist()}
    # Five standard errors of a mean of two-valued draws.
    error = (probability / (1 - probability) / images) ** 0.5
    assert abs(first.mean().item() - 1) < 5 * error


def test_gradients_are_dropped_with_their_image() -> None:
    torch.manual_seed(0)
    x = torch.ones(64, 1, 1, 1, requires_grad=True)
    y = StochasticDepth(0.5)(x)
    y.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, y.detach())


def test_half_precision_stays() -> None:
    assert StochasticDepth(0.5)(torch.ones(4, 1, 1, 1, dtype=torch.bfloat16)).dtype == torch.bfloat16
