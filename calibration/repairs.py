"""Edits of a network against the loss that int8 brings: found by calibration, applied before anything is lowered."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import torch

from calibration.errors import BadCalibration

RELAXED = "relaxed"


@dataclass(frozen=True)
class Repairs:
    """New values for a network's parameters, by their names in it, and where its ReLU6 becomes a ReLU.

    ``relaxed`` holds module paths.
    """

    tensors: dict[str, torch.Tensor]
    relaxed: tuple[str, ...] = ()

    def then(self, later: Repairs) -> Repairs:
        """Both; of what both edit, the later."""
        return Repairs({**self.tensors, **later.tensors}, tuple(dict.fromkeys((*self.relaxed, *later.relaxed))))

    def to_bytes(self) -> bytes:
        """A safetensors file."""
        from safetensors.torch import save

        ordered = {name: self.tensors[name].detach().contiguous() for name in sorted(self.tensors)}
        return bytes(save(ordered, {RELAXED: json.dumps(self.relaxed)}))

    def sha256(self) -> str:
        """Hash of that file."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @classmethod
    def from_bytes(cls, data: bytes) -> Repairs:
        """Read it again; ``BadCalibration`` where it is none."""
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            tensors = load(data)
            length = int.from_bytes(data[:8], "little")
            relaxed = json.loads(json.loads(data[8 : 8 + length])["__metadata__"][RELAXED])
            return cls(tensors, tuple(str(path) for path in relaxed))
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise BadCalibration(f"These are no repairs ({error}): calibrate again.") from error
