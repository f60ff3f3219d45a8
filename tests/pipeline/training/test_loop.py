"""The loop against arithmetic done by hand, and its edges."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from edge_apps.runtime.preprocess import Preprocess
from pipeline.data.reading import Pixels
from pipeline.errors import EdgeError
from pipeline.training.loop import Normalise, Training, count_correct, epoch_seed, make_optimizer

PREPROCESS = Preprocess(height=8, width=8)
CPU = torch.device("cpu")


@pytest.fixture
def settings(settings):
    """Plain gradient descent, so that a step can be done by hand."""
    return partial(settings, input=8, epochs=3, optimizer="sgd", lr=0.1, weight_decay=0.0, schedule="cosine", ema=0.0)


def _data(n=32, classes=4):
    """Pictures whose class is their brightness."""
    labels = np.arange(n) % classes
    noise = np.random.default_rng(0).integers(0, 20, (n, 8, 8, 3))
    return Pixels((noise + labels[:, None, None, None] * 60).astype(np.uint8), labels.astype(np.int64))


def _linear(classes=4):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(192, classes))


def _convolutional(classes=4):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU6(),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(512, classes),
    )


def test_normalise_is_the_formula():
    batch = torch.randint(0, 256, (2, 5, 4, 3), dtype=torch.uint8)
    out = Normalise(PREPROCESS)(batch)
    assert out.shape == (2, 3, 5, 4)
    assert out.is_contiguous(memory_format=torch.channels_last)
    for n, y, x, c in ((0, 0, 0, 0), (1, 4, 3, 2), (0, 2, 1, 1)):
        expected = (batch[n, y, x, c].item() / 255 - PREPROCESS.mean[c]) / PREPROCESS.std[c]
        assert out[n, c, y, x].item() == pytest.approx(expected, abs=1e-5)


def test_one_step_is_smoothed_cross_entropy_and_gradient_descent(settings):
    """Loss, gradient and Nesterov's first step of a linear classifier, in numpy."""
    network = _linear()
    training = Training(network, settings(), PREPROCESS, _data(), CPU)
    weight, bias = (p.detach().double().numpy().copy() for p in network.parameters())
    images, labels = torch.randn(8, 3, 8, 8), torch.arange(8) % 4
    loss, logits = training.step(images, labels, rate=0.05)
    x = images.flatten(1).double().numpy()
    z = x @ weight.T + bias
    target = np.eye(4)[labels.numpy()] * 0.9 + 0.1 / 4
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    assert logits.numpy() == pytest.approx(z, abs=1e-5)
    assert loss.item() == pytest.approx(-(target * np.log(p)).sum(1).mean(), rel=1e-5)
    gradient = (p - target).T @ x / 8
    moved = 0.05 * (gradient + 0.9 * gradient)  # the first Nesterov step: g + momentum · g
    assert network[1].weight.detach().numpy() == pytest.approx(weight - moved, abs=1e-6)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_everything_but_biases_decays(optimizer, settings):
    network = _convolutional()
    groups = make_optimizer(network, settings(optimizer=optimizer, weight_decay=0.3)).param_groups
    assert [group["weight_decay"] for group in groups] == [0.3, 0.0]
    decayed, free = ({id(p) for p in group["params"]} for group in groups)
    names = {id(p): name for name, p in network.named_parameters()}
    assert {names[p] for p in free} == {"1.bias", "5.bias"}
    assert {names[p] for p in decayed} == {"0.weight", "1.weight", "5.weight"}


@pytest.mark.parametrize("augment", ["none", "flip-crop", "affine"])
def test_it_learns(augment, settings):
    data = _data(64)
    training = Training(_convolutional(), settings(epochs=8, lr=0.02, ema=0.9, augment=augment), PREPROCESS, data, CPU)
    results = [training.run_epoch(lambda _: None) for _ in range(8)]
    assert results[-1].loss < results[0].loss
    assert count_correct(training.average.network, PREPROCESS, data, CPU) >= 60


def test_an_epoch_shows_every_picture_once_in_an_order_of_its_own(settings):
    data, seen = _data(30), []
    training = Training(_linear(), settings(), PREPROCESS, data, CPU)

    def step(images, _labels, rate):
        seen.append((images, rate))
        return torch.ones(()), torch.zeros(1, 4)

    training.step = step
    for _ in range(2):
        training.run_epoch(lambda _: None)
    epochs = [torch.cat([images for images, _ in seen[i : i + 4]]) for i in (0, 4)]
    everything = Normalise(PREPROCESS)(torch.from_numpy(data.images))
    for epoch in epochs:
        assert torch.equal(epoch.flatten(1).sum(1).sort().values, everything.flatten(1).sum(1).sort().values)
    assert not torch.equal(*epochs)
    assert [rate for _, rate in seen] == pytest.approx([0.05 * (1 + math.cos(math.pi * i / 12)) for i in range(8)])


@pytest.mark.parametrize(("pictures", "steps"), [(2, 1), (8, 1), (9, 1), (10, 2), (17, 2), (24, 3)])
def test_a_last_batch_of_one_picture_is_left_out(pictures, steps, settings):
    """Batch norm after pooling to 1×1 refuses a batch of one."""
    network = nn.Sequential(nn.Conv2d(3, 4, 8), nn.BatchNorm2d(4), nn.Flatten())
    training = Training(network, settings(), PREPROCESS, _data(pictures), CPU)
    done = []
    training.run_epoch(done.append)
    assert training.steps_per_epoch == len(done) == steps


def test_the_result_of_an_epoch_is_a_mean_over_pictures(settings):
    """With a learning rate that moves nothing, the epoch's loss is the whole set's, unequal batches and all."""
    data, network = _data(30), _linear()
    training = Training(network, settings(lr=1e-30), PREPROCESS, data, CPU)
    result = training.run_epoch(lambda _: None)
    with torch.no_grad():
        logits = network(Normalise(PREPROCESS)(torch.from_numpy(data.images)))
    labels = torch.from_numpy(data.labels)
    assert result.loss == pytest.approx(functional.cross_entropy(logits, labels, label_smoothing=0.1).item(), rel=1e-5)
    assert result.top1 == pytest.approx((logits.argmax(1) == labels).double().mean().item())


def test_a_loss_that_is_no_number_stops_in_one_line(settings):
    training = Training(_linear(), settings(lr=1e38), PREPROCESS, _data(), CPU)
    with pytest.raises(EdgeError, match=r"loss became (nan|inf) in epoch 1.*`lr` below 1e\+38") as caught:
        training.run_epoch(lambda _: None)
    assert caught.value.exit_status == 1
    assert "\n" not in str(caught.value)


def test_a_last_step_that_breaks_the_weights_is_found_before_the_epoch_counts(settings):
    training = Training(_linear(), settings(), PREPROCESS, _data(8), CPU)
    training.run_epoch(lambda _: None)
    step = training.step

    def breaking(images, labels, rate):
        result = step(images, labels, rate)
        with torch.no_grad():
            training.network[1].weight[0, 0] = math.nan
        return result

    training.step = breaking
    with pytest.raises(EdgeError, match=r"Weights became NaN .* in epoch 2.* The state after epoch 1 is kept"):
        training.run_epoch(lambda _: None)
    assert training.epochs_done == 1


def test_bf16_computes_in_bf16_and_keeps_float32_weights(settings):
    training = Training(_convolutional(), settings(precision="bf16"), PREPROCESS, _data(), CPU)
    _, logits = training.step(torch.randn(4, 3, 8, 8), torch.arange(4), 0.01)
    assert logits.dtype == torch.bfloat16
    assert all(p.dtype == torch.float32 for p in training.network.parameters())


def test_seeds_of_epochs_differ():
    assert len({epoch_seed(seed, epoch) for seed in range(20) for epoch in range(20)}) == 400
