"""The moving average against the sum written out."""

import pytest
import torch
from torch import nn

from pipeline.training.average import MovingAverage


def _network(value):
    network = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    with torch.no_grad():
        network[0].weight.fill_(value)
        network[1].running_mean.fill_(-value)
        network[1].num_batches_tracked.fill_(int(value))
    return network


def test_weights_and_statistics_follow_the_formula():
    average = MovingAverage(_network(1.0), 0.5)
    expected = 1.0
    for step, value in enumerate((3.0, -2.0, 7.0), start=1):
        average.update(_network(value), step)
        decay = min(0.5, step / (9 + step))
        expected = decay * expected + (1 - decay) * value
    assert average.network[0].weight.item() == pytest.approx(expected)
    assert average.network[1].running_mean.item() == pytest.approx(-expected)
    assert average.network[1].num_batches_tracked.item() == 7


def test_the_random_start_is_forgotten_in_a_short_training():
    average = MovingAverage(_network(1000.0), 0.9999)
    for step in range(1, 101):
        average.update(_network(1.0), step)
    assert average.network[0].weight.item() == pytest.approx(1.0, abs=1e-3)


def test_without_decay_it_is_the_network():
    network = _network(2.0)
    average = MovingAverage(_network(5.0), 0.0)
    average.update(network, 1)
    mine, its = average.network.state_dict(), network.state_dict()
    assert all(torch.equal(tensor, its[name]) for name, tensor in mine.items())


def test_the_average_is_apart_from_the_network_and_in_evaluation_mode():
    network = _network(2.0).train()
    average = MovingAverage(network, 0.9)
    average.update(_network(3.0), 1)
    assert network[0].weight.item() == 2.0
    assert network.training
    assert not average.network.training
    assert not any(p.requires_grad for p in average.network.parameters())
