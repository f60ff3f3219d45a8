"""Edits of a network against the loss that int8 brings: found by calibration, applied before anything is lowered."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch

from calibration.errors import BadCalibration


@dataclass(frozen=True)
class Repairs:
    """New values for a network's parameters, by their names in it."""

    tensors: dict[str, torch.Tensor]

    def then(self, later: Repairs) -> Repairs:
        """Both; of what both edit, the later."""
        return Repairs({**self.tensors, **later.tensors})

    def to_bytes(self) -> bytes:
        """A safetensors file."""
        from safetensors.torch import save

        return bytes(save({name: self.tensors[name].detach().contiguous() for name in sorted(self.tensors)}))

    def sha256(self) -> str:
        """Hash of that file."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @classmethod
    def from_bytes(cls, data: bytes) -> Repairs:
        """Read it again; ``BadCalibration`` where it is none."""
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            return cls(load(data))
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise BadCalibration(f"These are no repairs ({error}): calibrate again.") from error
