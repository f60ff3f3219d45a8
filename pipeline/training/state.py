"""The state of an interrupted training: written after every epoch beside the checkpoint that it will become."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch

from edge_apps.files import write_whole
from pipeline.errors import BadInput
from pipeline.training.loop import EpochResult, Training
from pipeline.training.settings import Settings


def state_path(out: Path) -> Path:
    """Where the state of a training towards ``out`` lies."""
    return out.with_name(out.name + ".state")


@dataclass(frozen=True)
class State:
    """A training between two epochs. ``heads`` are those on the network's inside: none, no tensors."""

    settings: Settings
    history: list[EpochResult]
    network: dict[str, torch.Tensor]
    heads: dict[str, torch.Tensor]
    average: dict[str, torch.Tensor]
    optimizer: dict[str, Any]

    def restore(self, training: Training) -> None:
        """Put a training of the same settings where this one was."""
        training.history = list(self.history)
        training.network.load_state_dict(self.network)
        if training.heads is not None:
            training.heads.load_state_dict(self.heads)
        training.average.network.load_state_dict(self.average)
        training.optimizer.load_state_dict(self.optimizer)


def save_state(path: Path, training: Training) -> None:
    """Write settings, history, network, heads, average and optimizer; the file changes whole or not at all."""
    content = {
        "settings": msgspec.to_builtins(training.settings),
        "history": msgspec.to_builtins(training.history),
        "network": training.network.state_dict(),
        "heads": {} if training.heads is None else training.heads.state_dict(),
        "average": training.average.network.state_dict(),
        "optimizer": training.optimizer.state_dict(),
    }
    stream = io.BytesIO()
    torch.save(content, stream)
    write_whole(path, stream.getvalue())


def read_state(path: Path) -> State | None:
    """What ``save_state`` wrote, or None where there is none; only tensors and plain values are read.

    Raises:
        BadInput: the file is something else.
    """
    if not path.exists():
        return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        return State(
            msgspec.convert(content["settings"], Settings),
            msgspec.convert(content["history"], list[EpochResult]),
            content["network"],
            content["heads"],
            content["average"],
            content["optimizer"],
        )
    except Exception as error:  # whatever a foreign file makes the unpickler raise
        raise BadInput(f"'{path}' is not the state of a training; discard it with `restart`.") from error
