"""Re-estimated statistics against those of all images at once, for batch norms of every kind."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from pipeline.training.batch_norm import other_statistics, reestimate


class OwnBatchNorm(nn.Module):
    """A batch norm that is no ``nn.BatchNorm2d``: only the function that it calls shows what it is."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.rand(channels)), nn.Parameter(torch.rand(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean, variance = self.get_buffer("running_mean"), self.get_buffer("running_var")
        return functional.batch_norm(x, mean, variance, self.weight, self.bias, self.training)


class LowLevel(OwnBatchNorm):
    """The same by torch's own function, whose parameters come in another order."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean, variance = self.get_buffer("running_mean"), self.get_buffer("running_var")
        return torch.batch_norm(x, self.weight, self.bias, mean, variance, self.training, 0.1, 1e-3, False)


class OtherNames(nn.Module):
    """Its buffers are called as its author liked."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mu", torch.zeros(channels))
        self.register_buffer("sigma2", torch.ones(channels))

    @property
    def running_mean(self) -> torch.Tensor:
        return self.get_buffer("mu")

    @property
    def running_var(self) -> torch.Tensor:
        return self.get_buffer("sigma2")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.batch_norm(x, running_mean=self.mu, running_var=self.sigma2, training=self.training)


class Frozen(nn.BatchNorm2d):
    """Stays in evaluation mode, whatever the network is set to."""

    def train(self, mode: bool = True) -> Frozen:  # noqa: ARG002 - the signature of nn.Module
        return super().train(False)


KINDS = {
    "BatchNorm2d": nn.BatchNorm2d,
    "own": OwnBatchNorm,
    "torch.batch_norm": LowLevel,
    "other names": OtherNames,
    "momentum None": lambda n: nn.BatchNorm2d(n, momentum=None),
    "momentum 0": lambda n: nn.BatchNorm2d(n, momentum=0.0),
    "without scale": lambda n: nn.BatchNorm2d(n, affine=False),
    "SyncBatchNorm": nn.SyncBatchNorm,
}


def images(n: int = 40, side: int = 6) -> torch.Tensor:
    torch.manual_seed(1)
    return 3 * torch.randn(n, 3, side, side) + torch.rand(n, 3, 1, 1)


def network(norm: nn.Module, second: nn.Module | None = None) -> nn.Sequential:
    torch.manual_seed(0)
    second = nn.Identity() if second is None else second
    return nn.Sequential(nn.Conv2d(3, 4, 3), norm, nn.Dropout(0.9), nn.ReLU(), nn.Conv2d(4, 4, 3), second)


@pytest.mark.parametrize("kind", KINDS)
def test_statistics_are_those_of_all_images_at_once(kind: str) -> None:
    made, data = network(KINDS[kind](4)), images()
    assert reestimate(made, torch.split(data, 16)) == 1
    with torch.no_grad():
        values = made[0](data).double()
    assert torch.allclose(made[1].running_mean.double(), values.mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(made[1].running_var.double(), values.var((0, 2, 3)), rtol=1e-5)  # unbiased
    assert not made.training


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "SyncBatchNorm"])  # trains on GPUs only
def test_the_saved_network_answers_as_the_training_one_does(kind: str) -> None:
    """One batch of everything: each layer sees what it would see in evaluation, so nothing but n / (n − 1) is left."""
    made, data = network(KINDS[kind](4), KINDS[kind](4)), images(200)
    assert reestimate(made, [data]) == 2
    training = copy.deepcopy(made).train()
    training[2].eval()  # dropout
    with torch.no_grad():
        assert torch.allclose(made(data), training(data), atol=5e-3)


def test_what_stood_there_before_does_not_matter() -> None:
    first, second = network(nn.BatchNorm2d(4)), network(nn.BatchNorm2d(4))
    second[1].running_mean.fill_(100.0)
    second[1].running_var.fill_(1e-6)
    for made in (first, second):
        reestimate(made, torch.split(images(), 16))
    assert torch.equal(first[1].running_mean, second[1].running_mean)
    assert torch.equal(first[1].running_var, second[1].running_var)


def test_frozen_layers_stay_and_the_others_do_not() -> None:
    made = network(nn.BatchNorm2d(4), Frozen(4))
    assert reestimate(made, [images()]) == 1
    assert torch.equal(made[5].running_mean, torch.zeros(4))
    assert not torch.equal(made[1].running_mean, torch.zeros(4))


def test_layers_without_running_statistics_and_those_never_reached_stay() -> None:
    made = network(nn.BatchNorm2d(4, track_running_stats=False))
    made.head = nn.BatchNorm2d(4)  # type: ignore[assignment]
    made.forward = lambda x: made[1](made[0](x))  # type: ignore[method-assign]
    assert reestimate(made, [images()]) == 0
    assert torch.equal(made.head.running_var, torch.ones(4))


@pytest.mark.parametrize("norm", [nn.Identity(), nn.GroupNorm(2, 4), nn.InstanceNorm2d(4)])
def test_networks_without_batch_norm_are_not_even_run(norm: nn.Module) -> None:
    made = network(norm)
    before = copy.deepcopy(made.state_dict())
    assert reestimate(made, iter(lambda: pytest.fail("an image was asked for"), None)) == 0
    assert all(torch.equal(before[name], tensor) for name, tensor in made.state_dict().items())
    assert not any(module.training for module in made.modules())


def test_a_layer_that_is_used_twice_has_the_statistics_of_both_uses() -> None:
    norm = nn.BatchNorm2d(3)
    made = nn.Sequential(norm, nn.Conv2d(3, 3, 1), norm)
    assert reestimate(made, [images()]) == 1
    with torch.no_grad():
        first = images()
        second = made[1](functional.batch_norm(first, None, None, norm.weight, norm.bias, training=True))
        both = torch.cat([first, second]).double()
    assert torch.allclose(norm.running_mean.double(), both.mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(norm.running_var.double(), both.var((0, 2, 3)), rtol=1e-5)


def test_maps_of_a_single_pixel() -> None:
    made = nn.Sequential(nn.Conv2d(3, 4, 6), nn.BatchNorm2d(4), nn.Flatten(), nn.BatchNorm1d(4))
    assert reestimate(made, torch.tensor_split(images(3), 1)) == 2
    assert all(bool(torch.isfinite(tensor).all()) for tensor in made.state_dict().values())


# Instance norms


class OwnInstanceNorm(OwnBatchNorm):
    """An instance norm that calls torch's own function."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean, variance = self.get_buffer("running_mean"), self.get_buffer("running_var")
        return torch.instance_norm(x, self.weight, self.bias, mean, variance, self.training, 0.1, 1e-5, False)


@pytest.mark.parametrize("affine", [True, False, None])
def test_instance_norms_hold_the_means_over_all_images(affine: bool | None) -> None:
    """As a training with the averaging constant 1 over one batch of everything would leave them."""
    norm = OwnInstanceNorm(4) if affine is None else nn.InstanceNorm2d(4, affine=affine, track_running_stats=True)
    made, data = network(norm), images()
    assert reestimate(made, torch.split(data, 16)) == 1
    wanted = nn.InstanceNorm2d(4, momentum=1.0, track_running_stats=True)
    with torch.no_grad():
        wanted(made[0](data))
    assert torch.allclose(made[1].running_mean, wanted.running_mean, atol=1e-5)
    assert torch.allclose(made[1].running_var, wanted.running_var, rtol=1e-5)


def test_behind_an_instance_norm_the_images_are_normalised_one_by_one() -> None:
    made = network(nn.InstanceNorm2d(4, track_running_stats=True), nn.BatchNorm2d(4))
    made[2] = nn.Identity()
    assert reestimate(made, [images()]) == 2
    with torch.no_grad():
        values = made[4](functional.relu(functional.instance_norm(made[0](images()))))
    assert torch.allclose(made[5].running_mean, values.mean((0, 2, 3)), atol=1e-5)


# What cannot be re-estimated


class ByFormula(nn.Module):
    """A batch norm that calls nothing which could be observed."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = self.get_buffer("mean")
        if self.training:
            mean.lerp_(x.detach().mean((0, 2, 3)), 0.01)
        return x - mean[:, None, None]


def test_statistics_by_a_formula_of_their_own_are_named() -> None:
    made = network(nn.BatchNorm2d(4), nn.utils.parametrizations.spectral_norm(nn.Conv2d(4, 4, 1)))
    assert other_statistics(made, images(8)) == ((), ())
    made.append(nn.Sequential(nn.ReLU(), ByFormula(4)))
    made.append(nn.InstanceNorm2d(4, track_running_stats=True))
    before = copy.deepcopy(made.state_dict())
    assert other_statistics(made, images(8)) == (("6.1",), ("7",))
    assert all(torch.equal(before[name], tensor) for name, tensor in made.state_dict().items())
