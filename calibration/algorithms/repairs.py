"""Edits of a network against the loss that int8 brings: found by calibration, applied before anything is lowered."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.fx import GraphModule

from calibration.algorithms.layers import layers_of
from calibration.errors import BadCalibration
from calibration.tensor_files import read_tensors
from calibration.tensor_keys import NETWORK

_SCALED, _ROUNDED = "scaled:", "rounded:"


@dataclass(frozen=True)
class Repairs:
    """New values for a network's parameters, by their names in it.

    ``scaled`` are by equalisation: the float network computes what it did. ``rounded`` are by adaptive rounding and
    bias correction: better where the layer computes in int8, worse where it stays in float.
    """

    scaled: dict[str, torch.Tensor] = field(default_factory=dict)
    rounded: dict[str, torch.Tensor] = field(default_factory=dict)

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        """What the int8 network holds."""
        return {**self.scaled, **self.rounded}

    def then(self, later: Repairs) -> Repairs:
        """Both; of what both edit, the later."""
        return Repairs({**self.scaled, **later.scaled}, {**self.rounded, **later.rounded})

    def with_float(self, graph: GraphModule, layers: Collection[str]) -> Repairs:
        """For the network in which these layers (module paths in its graph) stay in float: they are not rounded."""
        kept = {name for layer in layers_of(graph) if layer.path in layers for name in (layer.weight, layer.bias)}
        return Repairs(self.scaled, {name: value for name, value in self.rounded.items() if name not in kept})

    def to_bytes(self) -> bytes:
        """A safetensors file."""
        from safetensors.torch import save

        named = {
            f"{prefix}{name}": tensor.detach().clone(memory_format=torch.contiguous_format)
            for prefix, tensors in ((_SCALED, self.scaled), (_ROUNDED, self.rounded))
            for name, tensor in sorted(tensors.items())
        }
        return bytes(save(named))

    def sha256(self) -> str:
        """Hash of that file."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @classmethod
    def from_bytes(cls, data: bytes) -> Repairs:
        """Read it again; ``BadCalibration`` where it is none."""
        try:
            tensors, _ = read_tensors(data)
        except ValueError as error:
            raise BadCalibration(f"These are no repairs ({error}): calibrate again.") from error
        found = cls()
        for name, tensor in tensors.items():
            if not name.startswith((_SCALED, _ROUNDED)):
                raise BadCalibration(f"These are no repairs (a tensor '{name}'): calibrate again.")
            kind = found.scaled if name.startswith(_SCALED) else found.rounded
            kind[name.partition(":")[2]] = tensor
        return found


def exchange(network: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Put these values in the place of a network's tensors of the same names; who shared the old ones keeps them.

    Raises:
        BadCalibration: the network has no such tensor.
    """
    for name, tensor in tensors.items():
        *path, last = name.split(".")
        held: Any = network
        for part in path:
            held = getattr(held, part, None)
        old = getattr(held, last, None)
        if not isinstance(old, torch.Tensor) or old.shape != tensor.shape:
            raise BadCalibration(f"Repairs change '{name}', which this network does not have so: calibrate again.")
        setattr(held, last, nn.Parameter(tensor, requires_grad=False) if isinstance(old, nn.Parameter) else tensor)


def with_values(graph: GraphModule, tensors: Mapping[str, torch.Tensor]) -> GraphModule:
    """The graph, with ``exchange`` done to the network in it."""
    exchange(getattr(graph, NETWORK), tensors)
    return graph
