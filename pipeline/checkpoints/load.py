"""Reading checkpoints: our own, state dicts of others, and exported programs.

State dicts of others (``torch.save``, safetensors without our metadata) are read too; the caller then says what they
are. Nothing in a file is ever executed. An exported program (``.pt2``) holds its network as a graph of operators. What
a file is, its content says, not its suffix.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from calibration.tensor_files import read_tensors
from edge_apps.runtime.preprocess import Preprocess
from edge_apps.untrusted import MB, read_regular
from pipeline import zoo
from pipeline.checkpoints import programs, state_dicts, user_networks
from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.checkpoints.choosing import Chosen, Wanted, take
from pipeline.checkpoints.fitting import fitted_state
from pipeline.checkpoints.formats import Format, format_of
from pipeline.checkpoints.key_mappings import check_hidden
from pipeline.checkpoints.metadata import METADATA_KEY, Given, Metadata, check, describe, metadata_of
from pipeline.checkpoints.pickles import unpickled
from pipeline.checkpoints.state_dicts import StateDict, find
from pipeline.errors import BadCheckpoint
from pipeline.zoo.spec import ModelSpec, Value

LARGEST = 4_000 * MB
"""Bytes of a checkpoint. Reading one takes memory in proportion, which nothing in it can enlarge."""


def load(
    path: Path,
    *,
    data: bytes | None = None,
    model: str | None = None,
    options: Mapping[str, Value] | None = None,
    labels: tuple[str, ...] | None = None,
    preprocess: Preprocess | Mapping[str, Any] | None = None,
    ema: bool | None = None,
) -> Checkpoint:
    """Read a checkpoint, float16 weights as float32; also a ``.pt2`` program, which brings its network along.

    ``data`` are its bytes, where they were read already. The others say what a file without metadata is: model and
    labels are then needed, options and preprocessing default to the model's; a mapping holds single settings of the
    preprocessing. For a file with metadata they must not contradict it. Of a user's own network (``file.py:factory``)
    the model is always needed.
    ``ema`` asks for averaged weights (True) or for the raw ones (False) of a file that holds both; None takes the raw
    ones, or averaged ones where there are no others.

    Raises:
        BadCheckpoint: not a checkpoint, truncated, more than tensors in a pickle, keys or shapes that are not the
            network's (the first three are named), NaN or infinite weights, ``ema`` that the file cannot satisfy.
            BadInput: unknown model or option.
    """
    given = Given(model, options, labels, preprocess)
    contents = read(path, data)
    if contents.format is Format.PROGRAM:
        if ema:
            raise BadCheckpoint(f"'{path}' is an exported program, which holds one set of weights: leave `ema` out.")
        return programs.load(path, contents.data, given)
    metadata = contents.metadata
    if metadata is None and (model is None or not labels):
        raise BadCheckpoint(
            f"'{path}' does not say what it is (no {METADATA_KEY} metadata): name its model and its labels with "
            f"`model` and `labels`. 'pipeline import-weights' imports weights of torchvision or timm."
        )
    named = None
    if model is not None and (metadata is None or user_networks.is_reference(model)):
        named = user_networks.find(model)
        given = replace(given, model=named.name)
    elif model is not None and zoo.knows(model):
        given = replace(given, model=zoo.get(model).name)  # not its alias
    if metadata is None:
        assert named is not None
        metadata = describe(named, Preprocess(height=named.input_size, width=named.input_size), given)
    check(metadata, given, path)
    if named is None and user_networks.is_reference(metadata.model):
        # The user's own file is run because they name it, never because a checkpoint does.
        raise BadCheckpoint(f"'{path}' is of your own network: say where that is, as in `model=…/{metadata.model}`.")
    spec = named or zoo.get(metadata.model)
    chosen = spec.with_defaults(metadata.options)
    for side in (metadata.preprocess.height, metadata.preprocess.width):
        spec.check_input(side, chosen)
    expected = _expected(spec, chosen, metadata.classes)
    taken = take(contents.state_dicts, Wanted.network(expected), ema, f"'{path}'")
    if contents.metadata is None:
        check_hidden(path, spec, taken.tensors, options or {})
    failure = f"'{path}' is no {_words(spec.name, chosen, metadata.classes)}"
    loaded = Checkpoint(
        path=path,
        sha256=metadata.made_from or sha256_of(contents.data, taken),
        content=contents.data,
        describes_itself=contents.metadata is not None,
        spec=spec,
        options=chosen,
        labels=metadata.labels,
        preprocess=metadata.preprocess,
        state=fitted_state(taken.tensors, expected, failure),
        training={**metadata.training, "weights": taken.other} if taken.other else metadata.training,
        notes=taken.notes,
    )
    if user_networks.is_reference(spec.name):
        user_networks.check_logits(loaded.network(), spec.name, metadata.classes, metadata.preprocess)
    return loaded


def sha256_of(data: bytes, taken: Chosen) -> str:
    """Return what names these weights: the file's sha256, or one of its own for weights that are not the default.

    Ranges of a file's raw weights are not those of its averaged ones.
    """
    of_file = hashlib.sha256(data).hexdigest()
    return hashlib.sha256(f"{of_file}:{taken.other}".encode()).hexdigest() if taken.other else of_file


@dataclass(frozen=True)
class Contents:
    """A file as it was read: its bytes, what they are, the state dicts in it, and its metadata if it has any."""

    data: bytes = field(repr=False)
    format: Format
    state_dicts: tuple[StateDict, ...] = ()
    metadata: Metadata | None = None


def read(path: Path, data: bytes | None = None) -> Contents:
    """Read a file, unless its bytes are given; of an exported program only the bytes.

    Raises:
        BadCheckpoint: no file, truncated, another format, more than tensors in a pickle.
    """
    data = _read(path) if data is None else data
    format = format_of(data, path)
    if format is Format.PROGRAM:
        return Contents(data, format)
    if format is Format.PICKLE:
        return Contents(data, format, find(unpickled(data, path), path))
    tensors, metadata = _safetensors(data, path)
    return Contents(data, format, (StateDict("", tensors),), metadata)


def fitted(
    tensors: Mapping[str, torch.Tensor], spec: ModelSpec, options: Mapping[str, Value], classes: int, where: str
) -> dict[str, torch.Tensor]:
    """The tensors as the state of this network: its keys, its shapes, its dtypes, every value finite.

    Raises:
        BadCheckpoint: anything missing, unknown or of another shape (the first three are named), NaN or infinite.
    """
    expected = _expected(spec, options, classes)
    return fitted_state(tensors, expected, f"{where} is no {_words(spec.name, options, classes)}")


def _expected(spec: ModelSpec, options: Mapping[str, Value], classes: int) -> dict[str, torch.Tensor]:
    """The network's tensors by name, without values."""
    with torch.device("meta"):
        state: dict[str, torch.Tensor] = spec.build(classes, **options).state_dict()
    return state


def _read(path: Path) -> bytes:
    try:
        return read_regular(path, LARGEST)
    except IsADirectoryError as error:
        raise BadCheckpoint(f"'{path}' is a folder, not a checkpoint file.") from error
    except OSError as error:
        raise BadCheckpoint(f"Cannot read checkpoint '{path}': {error.strerror}.") from error


def _safetensors(data: bytes, path: Path) -> tuple[dict[str, torch.Tensor], Metadata | None]:
    try:
        tensors, texts = read_tensors(data)
    except ValueError as error:
        raise BadCheckpoint(
            f"'{path}' is not a whole safetensors file ({error}); it may be truncated, or of another format."
        ) from error
    state_dicts.check(tensors, path)
    text = texts.get(METADATA_KEY)
    return tensors, None if text is None else metadata_of(text, path)


def _words(model: str, options: Mapping[str, Value], classes: int) -> str:
    settings = [f"{name} {value}" for name, value in options.items()] + [f"{classes} classes"]
    return f"{model} ({', '.join(settings)})"
