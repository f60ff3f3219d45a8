"""The state dicts in a checkpoint: a training script keeps them beside its optimizer, its settings and its averages."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.errors import BadCheckpoint

DEEPEST = 3
"""Levels of dictionaries that are searched, as in ``{"state": {"model": {"module": …}}}``."""

MOST_DICTIONARIES = 1000

LONGEST_NAME, DEEPEST_NAME = 1000, 50
"""Characters of a tensor's name, and dots in it; those of torchvision's transformers have 60 and 5."""

MOST_EXPANDED = 64_000_000
"""Bytes of a tensor of which not all are stored, as of one that was made by ``expand``."""

AVERAGED = frozenset({"ema", "emas", "avg", "average", "averages", "averaged", "averaging", "swa", "polyak", "shadow"})
"""A word of these names averaged weights: ``model_ema``, ``params_ema``, ``modelEma``, ``EMAModel``, ``swa_model``."""

_NETWORK = ("model", "net", "network", "weights", "params")
"""Words to which that of the average is attached: ``modelema``."""

LIGHTNING_RAW = "current_model_state"
"""Where Lightning keeps the raw weights if its ``state_dict`` is the average (``WeightAveraging``)."""


def is_averaged(path: str) -> bool:
    """Whether a dotted path of keys or module names says that it holds averaged weights."""
    return any(word in AVERAGED or _attached(word) for word in words_of(path))


def words_of(name: str) -> list[str]:
    """Return the words of a name in lower case, without numbers: ``modelEMA_2`` has 'model' and 'ema'."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    return re.findall("[a-z]+", apart.lower())


def _attached(word: str) -> bool:
    return any(word in (f"{network}ema", f"ema{network}") for network in _NETWORK)


@dataclass(frozen=True)
class StateDict:
    """Tensors by name, and where in the file they are.

    ``place`` is the dotted path of keys (``state_dict_ema``), empty for the file itself. ``others`` are the names of
    entries beside the tensors that hold something else. ``averaged`` says that they are averages (EMA, SWA).
    ``unnamed`` are the places of averaged weights that are a list of tensors without names, as torch_ema keeps them.
    """

    place: str
    tensors: dict[str, torch.Tensor]
    others: tuple[str, ...] = ()
    averaged: bool = False
    unnamed: tuple[str, ...] = ()


def find(content: Any, path: Path) -> tuple[StateDict, ...]:
    """Return every dictionary with tensors in what a file of ``torch.save`` holds, the outermost first.

    Raises:
        BadCheckpoint: there is none, and what there is instead.
    """
    if not isinstance(content, Mapping):
        raise BadCheckpoint(f"'{path}' is not a state dict but one {type(content).__name__}.")
    if not content:
        raise BadCheckpoint(f"'{path}' is not a state dict of anything: it is empty.")
    found = tuple(_walk(content))
    for one in found:
        check(one.tensors, path)
    if not any(one.tensors for one in found):
        name, value = next(iter(content.items()))
        raise BadCheckpoint(
            f"'{path}' is not a state dict: {name!r:.80} is not a tensor ({type(value).__name__}). Save the network's "
            "own, with torch.save(network.state_dict(), …)."
        )
    return found


def check(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """``BadCheckpoint`` for a name, or a tensor beyond what is stored of it, that takes too much to work with."""
    for name, tensor in tensors.items():
        if len(name) > LONGEST_NAME or name.count(".") > DEEPEST_NAME:
            raise BadCheckpoint(
                f"'{path}' is not read: the name '{name[:60]}…' of a tensor has {len(name):,} characters and "
                f"{name.count('.'):,} dots; at most {LONGEST_NAME} and {DEEPEST_NAME} are read."
            )
        if _is_expanded(tensor):
            raise BadCheckpoint(
                f"'{path}' is not read: '{name:.80}' has the shape {tuple(tensor.shape)!s:.80} and far fewer numbers. "
                "Save it with tensor.contiguous()."
            )


def _is_expanded(tensor: torch.Tensor) -> bool:
    """Whether a tensor repeats what is stored so often that computing with it takes much more memory than the file."""
    if tensor.layout != torch.strided or tensor.is_meta:
        return False
    size = tensor.numel() * tensor.element_size()
    return size > max(MOST_EXPANDED, tensor.untyped_storage().nbytes())


def _walk(content: Mapping[Any, Any]) -> Iterator[StateDict]:
    visited = 0
    averages = isinstance(content.get(LIGHTNING_RAW), Mapping)
    level = [("", content)]
    for _ in range(DEEPEST + 1):
        inner: list[tuple[str, Mapping[Any, Any]]] = []
        for place, mapping in level:
            visited += 1
            if visited > MOST_DICTIONARIES:  # a file can hold one dictionary in many places, or in itself
                return
            entries = {name: value for name, value in mapping.items() if isinstance(name, str)}
            tensors = {name: value for name, value in entries.items() if isinstance(value, torch.Tensor)}
            unnamed = tuple(_below(place, name) for name, value in entries.items() if _is_unnamed(place, name, value))
            if tensors or unnamed:
                others = tuple(str(name) for name in mapping if name not in tensors)
                averaged = is_averaged(place) or (averages and place == "state_dict")
                yield StateDict(place, tensors, others, averaged, unnamed)
            inner += [(_below(place, name), value) for name, value in entries.items() if isinstance(value, Mapping)]
        level = inner


def _below(place: str, name: str) -> str:
    return f"{place}.{name}".removeprefix(".")


def _is_unnamed(place: str, name: str, value: object) -> bool:
    """Whether an entry is a list of averaged weights, in the order of the network's parameters."""
    tensors = isinstance(value, list | tuple) and bool(value) and all(isinstance(one, torch.Tensor) for one in value)
    return tensors and is_averaged(_below(place, name))
