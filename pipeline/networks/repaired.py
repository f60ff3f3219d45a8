"""A network with the edits that calibration makes against rounding."""

from __future__ import annotations

import copy

import torch

from calibration.repairs import Repairs
from pipeline.errors import BadCalibration
from pipeline.networks.flat import FlatNetwork

aten = torch.ops.aten


def repaired(network: FlatNetwork, repairs: Repairs) -> FlatNetwork:
    """A copy with other values for some parameters, and ReLU in the place of some ReLU6.

    Raises:
        BadCalibration: repairs of another network.
    """
    edited = copy.deepcopy(network)
    shapes = {name: tensor.shape for name, tensor in edited.state_dict().items()}
    for name, tensor in repairs.tensors.items():
        if shapes.get(name) != tensor.shape:
            raise BadCalibration(f"Repairs change '{name}', which this network does not have so: calibrate again.")
        edited.keep(name, tensor)
    for node in edited.nodes:
        if node.meta["path"] in repairs.relaxed and node.target in (aten.hardtanh.default, aten.relu6.default):
            node.target, node.args = aten.relu.default, node.args[:1]
    return edited
