"""Classifiers on the inside of a network that help to train it and are then thrown away."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import torch
from torch import nn


class TrainingHeads(nn.Module):
    """Heads on units of a network, by the units' paths; the network itself knows nothing of them.

    In training their losses join that of the network: ``loss = main + weight · Σ head``. The network's state dict,
    counts and exported files are without them.
    """

    def __init__(self, heads: Mapping[str, nn.Module], weight: float) -> None:
        super().__init__()
        self.units = tuple(heads)
        self.heads = nn.ModuleList(heads.values())
        self.weight = weight

    @contextmanager
    def listening(self, network: nn.Module) -> Iterator[dict[str, torch.Tensor]]:
        """Inside, what the units hand out in the network's latest forward pass, by path."""
        heard: dict[str, torch.Tensor] = {}

        def listen(unit: str) -> torch.utils.hooks.RemovableHandle:
            def note(_module: nn.Module, _inputs: object, output: torch.Tensor) -> None:
                heard[unit] = output

            return network.get_submodule(unit).register_forward_hook(note)

        handles = [listen(unit) for unit in self.units]
        try:
            yield heard
        finally:
            for handle in handles:
                handle.remove()

    def forward(self, heard: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
        """Logits ``[N, K]`` of every head."""
        return [head(heard[unit]) for unit, head in zip(self.units, self.heads, strict=True)]


@runtime_checkable
class HasTrainingHeads(Protocol):
    """A network that is trained with heads on its inside."""

    def training_heads(self, side: int) -> TrainingHeads | None:
        """New heads for pictures of this side, randomly initialised; None where it was built to have none."""


def training_heads(network: nn.Module, side: int) -> TrainingHeads | None:
    """The heads that a network asks to be trained with, or None."""
    return network.training_heads(side) if isinstance(network, HasTrainingHeads) else None
