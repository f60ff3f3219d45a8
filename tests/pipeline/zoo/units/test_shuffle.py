"""Channel shuffle against torch's own."""

import pytest
import torch
from torch import nn

from pipeline.zoo.units.shuffle import ChannelShuffle


@pytest.mark.parametrize(("groups", "channels"), [(1, 5), (2, 8), (3, 12), (4, 4), (8, 96)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_equal_to_torch(groups: int, channels: int, layout: torch.memory_format) -> None:
    x = torch.arange(2 * channels * 15.0).view(2, channels, 3, 5).contiguous(memory_format=layout)
    assert torch.equal(ChannelShuffle(groups)(x), nn.ChannelShuffle(groups)(x))


def test_by_hand() -> None:
    """Six channels in two groups: 0 1 2 | 3 4 5 become 0 3 1 4 2 5 (§3.1: reshape, transpose, flatten)."""
    x = torch.arange(6.0).view(1, 6, 1, 1)
    assert ChannelShuffle(2)(x).flatten().tolist() == [0, 3, 1, 4, 2, 5]


def test_nothing_is_learnt_and_gradients_come_back_in_place() -> None:
    shuffle = ChannelShuffle(3)
    assert not shuffle.state_dict()
    x = torch.randn(1, 6, 2, 2, requires_grad=True)
    weights = torch.randn(1, 6, 2, 2)
    (shuffle(x) * weights).sum().backward()
    assert torch.equal(nn.ChannelShuffle(3)(x.grad), weights)
