"""Listening to units of a network."""

import copy

import pytest
import torch
from torch import nn

from pipeline.zoo.units.training_heads import TrainingHeads, training_heads


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.Linear(4, 5), nn.ReLU()), nn.Linear(5, 2))


def heads() -> TrainingHeads:
    return TrainingHeads({"1.0": nn.Linear(5, 2), "0": nn.Linear(4, 2)}, 0.5)


def test_each_head_gets_what_its_unit_hands_out() -> None:
    """In the heads' order, which need not be the network's."""
    net, made, x = network(), heads(), torch.randn(6, 3)
    with made.listening(net) as heard:
        net(x)
    first = net[0](x)
    expected = [made.heads[0](net[1][0](first)), made.heads[1](first)]
    assert all(torch.equal(a, b) for a, b in zip(made(heard), expected, strict=True))


def test_the_latest_pass_is_heard_and_nothing_after_it() -> None:
    net, made = network(), heads()
    with made.listening(net) as heard:
        net(torch.zeros(6, 3))
        net(torch.ones(2, 3))
    assert len(heard["0"]) == 2
    net(torch.zeros(9, 3))
    assert len(heard["0"]) == 2


def test_the_network_is_left_without_hooks_whatever_happens() -> None:
    net, made = network(), heads()
    with pytest.raises(RuntimeError, match="shape"), made.listening(net):
        net(torch.zeros(1, 9))
    assert not any(module._forward_hooks for module in net.modules())
    copy.deepcopy(net)


def test_gradients_go_through_the_unit() -> None:
    net, made = network(), heads()
    with made.listening(net) as heard:
        net(torch.randn(6, 3))
    made(heard)[1].sum().backward()
    assert net[0].weight.grad is not None
    assert net[2].weight.grad is None


def test_a_network_that_asks_for_none_has_none() -> None:
    assert training_heads(network(), 32) is None
