"""A network with the edits that calibration makes against rounding."""

from __future__ import annotations

import copy

from calibration.repairs import Repairs
from pipeline.errors import BadCalibration
from pipeline.networks.flat import FlatNetwork


def repaired(network: FlatNetwork, repairs: Repairs) -> FlatNetwork:
    """A copy with other values for some parameters.

    Raises:
        BadCalibration: repairs of another network.
    """
    edited = copy.deepcopy(network)
    shapes = {name: tensor.shape for name, tensor in edited.state_dict().items()}
    for name, tensor in repairs.tensors.items():
        if shapes.get(name) != tensor.shape:
            raise BadCalibration(f"Repairs change '{name}', which this network does not have so: calibrate again.")
        edited.keep(name, tensor)
    return edited
