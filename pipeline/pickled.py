"""State dicts as ``torch.save`` writes them: pickles, of which nothing is executed."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch

from pipeline.errors import BadCheckpoint

INSIDE = ("state_dict", "model")
"""Where a training's file keeps the network."""


def unpickled(data: bytes, path: Path) -> dict[str, torch.Tensor]:
    """Tensors of a state dict as ``torch.save`` wrote it, also inside what a training keeps: timm's ``{"state_dict":
    …}``, torchvision's ``{"model": …}``.

    Raises:
        BadCheckpoint: anything else, and why; a truncated file; objects that would have to be executed.
    """
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # a hostile file can make the unpickler fail in any way
        raise BadCheckpoint(
            f"'{path}' is not a state dict of plain tensors and was not executed ({_why_not(error, data)}). Save it "
            "with torch.save(network.state_dict(), …), or better as safetensors."
        ) from error
    for key in INSIDE:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping):
        raise BadCheckpoint(f"'{path}' is not a state dict but one {type(content).__name__}.")
    if not content:
        raise BadCheckpoint(f"'{path}' is not a state dict of anything: it is empty.")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise BadCheckpoint(
                f"'{path}' is not a state dict: {name!r:.80} is no tensor ({type(value).__name__}). Save the network's "
                "own, with torch.save(network.state_dict(), …)."
            )
    tensors: dict[str, torch.Tensor] = dict(content)
    if all(name.startswith("module.") for name in tensors):  # as DataParallel names them
        tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return tensors


def _why_not(error: Exception, data: bytes) -> str:
    """Why torch did not read it. Torch's own words are many, in bold, and advise to execute the file."""
    if not data.startswith((b"PK", pickle.PROTO)):
        return "it is no file of torch.save" if data else "it is empty"
    if isinstance(error, pickle.UnpicklingError):
        return "it holds pickled objects that are not tensors"
    if zipfile.is_zipfile(io.BytesIO(data)):
        return "it is an archive of something else, such as TorchScript"
    return "it is truncated or damaged"
