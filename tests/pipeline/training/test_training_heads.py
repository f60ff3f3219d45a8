"""Training with heads on the network's inside: they help, and they leave no trace."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional

from edge_apps.runtime.preprocess import Preprocess
from pipeline import zoo
from pipeline.checkpoints.load import load
from pipeline.data.reading import load_all
from pipeline.training.job import Job, train
from pipeline.training.loop import Training
from pipeline.training.state import read_state, save_state, state_path
from pipeline.zoo.units.training_heads import training_heads

PREPROCESS = Preprocess(height=36, width=36)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def googlenet(job: Callable[..., Job], small_pictures: Path) -> Callable[..., Job]:
    """``googlenet(out, auxiliary_weight)``: a job."""

    def made(out: Path, weight: float = 0.3) -> Job:
        options = {"width": 0.1, "auxiliary_weight": weight}
        return job(small_pictures, out, model="googlenet_bn", options=options, input=36, epochs=3)

    return made


@pytest.fixture
def training(googlenet: Callable[..., Job]) -> Callable[..., Training]:
    """One that has not begun."""

    def made(seed: int = 0, weight: float = 0.3) -> Training:
        of = googlenet(Path("unused"), weight)
        torch.manual_seed(seed)
        network = of.spec.build(2, **of.settings.options)
        heads = training_heads(network, 36)
        return Training(network, of.settings, PREPROCESS, load_all(of.data, PREPROCESS), torch.device("cpu"), heads)

    return made


def test_the_loss_is_that_of_the_network_and_a_share_of_each_heads(training: Callable[..., Training]) -> None:
    """main + 0.3 · (4a + 4d), smoothed alike, from maps that are computed here layer by layer."""
    made = training()
    network, heads = copy.deepcopy(made.network), copy.deepcopy(made.heads)
    assert heads is not None
    images, labels = torch.randn(8, 3, 36, 36), torch.arange(8) % 2
    torch.manual_seed(5)
    loss, logits = made.step(images, labels, 0.0)
    torch.manual_seed(5)
    x, maps = images, {}
    for name, layer in network.named_children():
        x = maps[name] = layer(x)
    losses = [
        functional.cross_entropy(answer, labels, label_smoothing=0.1)
        for answer in (x, heads.heads[0](maps["inception4a"]), heads.heads[1](maps["inception4d"]))
    ]
    assert torch.equal(logits, x)
    assert loss.item() == pytest.approx((losses[0] + 0.3 * (losses[1] + losses[2])).item(), rel=1e-6)
    assert loss.item() > losses[0].item()


def test_gradients_reach_the_heads_and_through_them_the_units_before(training: Callable[..., Training]) -> None:
    made, plain = training(), training(weight=0.0)
    assert made.heads is not None
    assert plain.heads is None
    plain.network.load_state_dict(made.network.state_dict())
    before = copy.deepcopy(made.heads.state_dict())
    images, labels = torch.randn(8, 3, 36, 36), torch.arange(8) % 2
    for each in (made, plain):
        torch.manual_seed(5)
        each.step(images, labels, 0.01)
    assert all(p.grad is not None and bool(p.grad.any()) for p in made.heads.parameters() if p.dim() > 1)
    assert not any(torch.equal(before[name], p) for name, p in made.heads.named_parameters() if p.dim() > 1)
    gradients = [each.network.get_parameter("conv1.conv.weight").grad for each in (made, plain)]
    assert not torch.equal(*gradients)  # from behind 4a
    gradients = [each.network.get_parameter("inception5b.branch1.conv.weight").grad for each in (made, plain)]
    assert torch.allclose(*gradients)  # no head stands behind 4d


def test_what_is_averaged_has_no_heads(training: Callable[..., Training]) -> None:
    made = training()
    made.run_epoch(lambda _: None)
    assert list(made.average.network.state_dict()) == list(made.network.state_dict())
    assert not any(module._forward_hooks for module in made.network.modules())
    assert not any(module._forward_hooks for module in made.average.network.modules())


def bits(made: Training) -> list[torch.Tensor]:
    assert made.heads is not None
    modules = (made.network, made.average.network, made.heads)
    return [tensor.clone() for module in modules for tensor in module.state_dict().values()]


def test_a_resumed_training_is_equal_bit_for_bit(training: Callable[..., Training], tmp_path: Path) -> None:
    path = tmp_path / "x.state"
    whole, first = training(), training()
    results = [whole.run_epoch(lambda _: None) for _ in range(3)]
    first.run_epoch(lambda _: None)
    save_state(path, first)
    second = training(seed=77)
    saved = read_state(path)
    assert saved is not None
    saved.restore(second)
    for _ in range(2):
        second.run_epoch(lambda _: None)
    assert second.history == results
    assert all(torch.equal(a, b) for a, b in zip(bits(whole), bits(second), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(bits(first), bits(second), strict=True))


def test_the_checkpoint_is_that_of_the_network_alone(
    googlenet: Callable[..., Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted in its second epoch and taken up again: the same file, in which no head is."""
    whole, broken = tmp_path / "whole.safetensors", tmp_path / "broken.safetensors"
    train(googlenet(whole))
    run_epoch = Training.run_epoch

    def interrupted(self: Training, on_step: object) -> object:
        if self.epochs_done == 1:
            raise KeyboardInterrupt
        return run_epoch(self, on_step)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Training, "run_epoch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(googlenet(broken))
    assert state_path(broken).exists()
    train(googlenet(broken))
    assert broken.read_bytes() == whole.read_bytes()
    with torch.device("meta"):
        expected = zoo.get("googlenet_bn").build(2, width=0.1, auxiliary_weight=0.0).state_dict()
    assert load_file(whole).keys() == expected.keys()
    assert load(whole).options["auxiliary_weight"] == 0.3
