"""The layer whose channels an operator computes with, behind operators that only move values."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch.fx import Node

from calibration.channel_flow import RESHAPES, ChannelPlace, follow, place_of_output
from calibration.tensor_keys import WEIGHTED
from pipeline.graphs.flat import FlatNetwork

aten: Any = torch.ops.aten

MOVES = RESHAPES | {aten.permute.default, aten.transpose.int, aten.clone.default, aten.contiguous.default}


class LayerBefore(NamedTuple):
    """A convolution or linear layer, and where its output channels lie in the tensor that was asked about."""

    layer: Node
    place: ChannelPlace


def layer_before(network: FlatNetwork, source: Any) -> LayerBefore | None:
    """Return the layer that ``source`` is the output of, moved or not.

    ::

        linear [N, T, C] → transpose [N, C, T] = source: the channels lie on axis 1

    Between the two nothing is computed and nobody else reads, so that what is done to the channels of ``source`` can be
    done to the layer's weight and bias. None where there is no such layer, or its tensors are not constants.
    """
    moves: list[Node] = []
    here = source
    while isinstance(here, Node) and here.target in MOVES and len(here.users) == 1:
        moves.append(here)
        here = here.args[0]
    if not isinstance(here, Node) or here.target not in WEIGHTED or len(here.users) != 1:
        return None
    weight, bias = (*here.args[1:3], None)[:2]
    if network.constant(weight) is None or (bias is not None and network.constant(bias) is None):
        return None
    place = place_of_output(here)
    channels = int(here.meta["val"].shape[place.axis])
    for move in reversed(moves):
        moved = follow(move, place, channels)
        if moved is None:
            return None
        place = moved
    return LayerBefore(here, place)
