"""Tensors of a file as the state of a network: their names, shapes, dtypes and values."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from pipeline.checkpoints.choosing import is_counter
from pipeline.errors import BadCheckpoint


def fitted_state(
    tensors: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor], failure: str
) -> dict[str, torch.Tensor]:
    """Return the tensors as the network's state: its keys, its shapes, its dtypes, every value finite.

    ``expected`` are the network's own, without values. Counters of batches may be missing, and may have any dtype: who
    casts a whole state dict to float16 casts them too. ``failure`` begins the error message.

    Raises:
        BadCheckpoint: anything missing, unknown or of another shape (the first three are named), NaN or infinite.
    """
    differences = []
    for name, wanted in expected.items():
        tensor = tensors.get(name)
        if tensor is None:
            if not is_counter(name):
                differences.append(f"{name} is missing")
        elif tensor.shape != wanted.shape:
            differences.append(f"{name} is {list(tensor.shape)}, expected {list(wanted.shape)}")
        elif tensor.is_floating_point() != wanted.is_floating_point() and not is_counter(name):
            differences.append(f"{name} is {_dtype(tensor)}, expected {_dtype(wanted)}")
        elif tensor.layout != torch.strided or tensor.is_meta:
            differences.append(f"{name} is sparse or empty of values")
    differences += [f"{name} is unknown" for name in tensors if name not in expected]
    if differences:
        raise BadCheckpoint(f"{failure}: {first_three(differences)}.")
    state = {name: _of_dtype(tensors.get(name), wanted) for name, wanted in expected.items()}
    bad = not_finite(state)
    if bad:
        raise BadCheckpoint(f"{failure} that can be used: {first_three(bad)}.")
    return state


def _of_dtype(tensor: torch.Tensor | None, wanted: torch.Tensor) -> torch.Tensor:
    """The tensor in the network's dtype; zero for a counter that is missing, or that float16 could not hold."""
    if tensor is None or (tensor.is_floating_point() > wanted.is_floating_point() and not tensor.isfinite().all()):
        return torch.zeros_like(wanted, device="cpu")
    return tensor.detach().to(wanted.dtype)


def as_stored(state: Mapping[str, torch.Tensor], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Return a state as a checkpoint stores it: convolution and linear weights in ``dtype``.

    Biases and batch-norm tensors keep float32: they are few, and float16 turns a variance below 6e-8 into 0.
    """
    return {
        name: (tensor.to(dtype) if tensor.is_floating_point() and tensor.dim() > 1 else tensor)
        .detach()
        .cpu()
        .contiguous()
        for name, tensor in state.items()
    }


def not_finite(tensors: Mapping[str, torch.Tensor]) -> list[str]:
    """Return a clause for each tensor that has NaN or infinite values."""
    faults = []
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            kind = "NaN" if bool(torch.isnan(tensor).any()) else "infinite"
            faults.append(f"{name} has {kind} values")
    return faults


def first_three(differences: list[str]) -> str:
    """Return the first three of some clauses, and how many more there are."""
    more = f"; and {len(differences) - 3} more" if len(differences) > 3 else ""
    return "; ".join(differences[:3]) + more


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
