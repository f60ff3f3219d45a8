"""Checkpoints: trained weights, and in the file's own header what they are weights of.

A checkpoint is a safetensors file whose header holds, under ``edge_pipeline``, JSON with the model, its options,
the labels and the preprocessing. State dicts of others (``torch.save``, safetensors without that key) are read
too; the caller then says what they are. Nothing in a file is ever executed. An exported program (``.pt2``) holds its
network as a graph of operators. What a file is, its content says, not its suffix.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
import safetensors.torch
import torch
from torch import nn

from calibration.tensor_files import read_tensors
from edge_apps.files import write_whole
from edge_apps.images import ImageSet
from edge_apps.runtime.preprocess import Preprocess
from edge_apps.untrusted import MB, parse_json, read_regular
from pipeline import zoo
from pipeline.checkpoints import state_dicts, user_networks
from pipeline.checkpoints.choosing import Chosen, Wanted, take
from pipeline.checkpoints.fitting import as_stored, first_three, fitted_state, not_finite
from pipeline.checkpoints.formats import Format, format_of
from pipeline.checkpoints.key_mappings import check_hidden
from pipeline.checkpoints.pickles import unpickled
from pipeline.checkpoints.state_dicts import StateDict, find
from pipeline.data.hashes import ImageHashes
from pipeline.data.reading import digest
from pipeline.errors import BadCheckpoint, BadInput
from pipeline.zoo.spec import ModelSpec, Value

FORMAT = 1
LARGEST = 4_000 * MB
"""Bytes of a checkpoint. Reading one takes memory in proportion, which nothing in it can enlarge."""

METADATA_KEY = "edge_pipeline"
HASHES = "image_hashes"
"""Where a training's record holds the hashes of its images."""


class Metadata(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON in the header."""

    format: int
    model: str
    options: dict[str, Value]
    classes: int
    labels: tuple[str, ...]
    preprocess: Preprocess
    training: dict[str, Any] = {}
    made_from: str | None = None
    """sha256 of the state dict of others that was written down with what it is."""


@dataclass(frozen=True)
class Checkpoint:
    """Trained weights that fit their network; ``state`` is float32 as the network wants it.

    ``sha256`` names the weights: of the file, or of the state dict of others that the file was made from. ``content``
    is the file as it was read, and ``describes_itself`` says whether it holds metadata. ``notes`` are what the user
    should know of how it was read, a line each.
    """

    path: Path
    sha256: str
    content: bytes = field(repr=False)
    describes_itself: bool
    spec: ModelSpec
    options: dict[str, Value]
    labels: tuple[str, ...]
    preprocess: Preprocess
    state: dict[str, torch.Tensor]
    training: dict[str, Any]
    notes: tuple[str, ...] = ()

    def network(self) -> nn.Module:
        """The network with these weights: float32, in evaluation mode, taking normalised ``[N, 3, H, W]``."""
        network = self.spec.build(len(self.labels), **self.options)
        network.load_state_dict(self.state)
        return network.eval()

    def trained_on(self, images: ImageSet) -> bool:
        """Whether these very pictures are one of its ``training_sets``."""
        return digest(images) in self.training_sets

    @property
    def training_sets(self) -> tuple[str, ...]:
        """Digests of the pictures that trained it, the last first; of a training that it started from, too."""
        last = self.training.get("settings", {}).get("data")
        return (*([last] if last else []), *self.training.get("earlier_data", ()))

    @property
    def hashes(self) -> tuple[ImageHashes, ...]:
        """Of each image that trained it, as ``training_sets``; none in checkpoints that did not record them.

        Raises:
            BadCheckpoint: a damaged record.
        """
        try:
            return msgspec.convert(self.training.get(HASHES, ()), tuple[ImageHashes, ...])
        except msgspec.ValidationError as error:
            raise BadCheckpoint(
                f"'{self.path}' has a damaged record of the images that trained it ({error}): train it again, or take "
                "the file from where it was made."
            ) from error


def builtin() -> Path:
    """The trained MobileNetV2 for digits that comes with the package."""
    return Path(str(resources.files("pipeline.zoo") / "weights" / "mobilenet_v2-digits.safetensors"))


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
    given = {"model": model, "options": options, "labels": labels, "preprocess": preprocess}
    contents = read(path, data)
    if contents.format is Format.PROGRAM:
        from pipeline.checkpoints import programs

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
        given["model"] = named.name
    elif model is not None and zoo.knows(model):
        given["model"] = zoo.get(model).name  # not its alias
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


def describe(spec: ModelSpec, preprocess: Preprocess, given: Mapping[str, Any]) -> Metadata:
    """What a file without metadata is, by what the caller says of it."""
    changes = given["preprocess"]
    return Metadata(
        format=FORMAT,
        model=spec.name,
        options=spec.with_defaults(given["options"] or {}),
        classes=len(given["labels"]),
        labels=given["labels"],
        preprocess=changed(preprocess, changes) if isinstance(changes, Mapping) else changes or preprocess,
    )


def save(
    path: Path,
    network: nn.Module,
    *,
    spec: ModelSpec,
    options: Mapping[str, Value],
    labels: tuple[str, ...],
    preprocess: Preprocess,
    training: Mapping[str, Any],
    dtype: torch.dtype = torch.float32,
    made_from: str | None = None,
) -> None:
    """Write a network's weights with their metadata; the file appears whole or not at all.

    ``made_from`` is the sha256 of the state dict of others that these weights are.

    Raises:
        BadCheckpoint: weights that are NaN, infinite, or too large for ``dtype``. BadInput: unwritable folder.
    """
    metadata = Metadata(
        format=FORMAT,
        model=spec.name,
        options=spec.with_defaults(options),
        classes=len(labels),
        labels=labels,
        preprocess=preprocess,
        training=dict(training),
        made_from=made_from,
    )
    state = as_stored(network.state_dict(), dtype)
    bad = not_finite(state)
    if bad:
        raise BadCheckpoint(f"'{path}' is not written: {first_three(bad)}. Train again with a lower learning rate.")
    header = {METADATA_KEY: msgspec.json.encode(metadata).decode()}
    write_whole(path, safetensors.torch.save(state, header))


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


def metadata_of(text: str, path: Path) -> Metadata:
    """The JSON in a header, with a model's name that may be shown and made a file name of.

    Raises:
        BadCheckpoint: not this JSON, or a name with path separators, control characters or the like.
    """
    try:
        metadata = parse_json(text.encode(errors="surrogatepass"), Metadata)
    except ValueError as error:
        raise BadCheckpoint(f"'{path}' has metadata that cannot be read: {error}.") from error
    if not user_networks.is_name(metadata.model):
        raise BadCheckpoint(
            f"'{path}' says its model is {_short(metadata.model)}, which is no model's name: letters, digits and _.:- "
            f"are allowed, no leading dot, at most {user_networks.LONGEST_NAME} characters."
        )
    return metadata


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


def check(metadata: Metadata, given: Mapping[str, Any], path: Path) -> None:
    """Metadata that agrees with itself and with what the caller said."""
    if metadata.format > FORMAT:
        raise BadCheckpoint(
            f"'{path}' has checkpoint format {metadata.format}; this version reads up to {FORMAT}: "
            "upgrade edge-pipeline."
        )
    if len(metadata.labels) != metadata.classes or metadata.classes < 1:
        raise BadCheckpoint(f"'{path}' says {metadata.classes} classes and lists {len(metadata.labels)} labels.")
    if len(set(metadata.labels)) != len(metadata.labels):
        raise BadCheckpoint(f"'{path}' names the same label twice: {', '.join(metadata.labels)[:80]}.")
    for name, value in given.items():
        recorded = getattr(metadata, name)
        if name == "options" and value is not None:
            # A file from before an option existed was made with what is its default now.
            whole = {**_defaults(metadata.model), **recorded}
            value = {option: wanted for option, wanted in value.items() if whole.get(option) != wanted}
            recorded = {option: whole.get(option) for option in value}
        if name == "preprocess" and isinstance(value, Mapping):
            value = changed(recorded, value)
        if value is not None and value != recorded:
            raise BadCheckpoint(
                f"'{path}' says {name} {_short(recorded)}, but {_short(value)} was given: leave it out."
            )


def _defaults(model: str) -> dict[str, Value]:
    return zoo.get(model).with_defaults({}) if zoo.knows(model) else {}


def changed(preprocess: Preprocess, changes: Mapping[str, Any]) -> Preprocess:
    """The same with some settings replaced; ``BadInput`` where they cannot be."""
    try:
        return msgspec.structs.replace(preprocess, **changes)
    except ValueError as error:
        raise BadInput(f"Preprocessing: {error}.") from error


def _words(model: str, options: Mapping[str, Value], classes: int) -> str:
    settings = [f"{name} {value}" for name, value in options.items()] + [f"{classes} classes"]
    return f"{model} ({', '.join(settings)})"


def _short(value: object) -> str:
    """A recorded or given value in a few words; an input size stands for the whole preprocessing."""
    if isinstance(value, Preprocess):
        usual = Preprocess(height=value.height, width=value.width)
        pixels = "" if (value.mean, value.std) == (usual.mean, usual.std) else f", mean {value.mean}, std {value.std}"
        crop = f" cut from {value.resize_to}" if value.resize == "crop" else ""
        return f"input {value.height}×{value.width}{crop}{pixels}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
