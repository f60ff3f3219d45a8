"""What a checkpoint says of itself: the JSON in its header, and whether it agrees with what a caller says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from edge_apps.runtime.preprocess import Preprocess
from edge_apps.untrusted import parse_json
from pipeline import zoo
from pipeline.checkpoints import user_networks
from pipeline.errors import BadCheckpoint, BadInput
from pipeline.zoo.spec import ModelSpec, Value

FORMAT = 1

METADATA_KEY = "edge_pipeline"


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
class Given:
    """What a caller says a checkpoint is; None where nothing is said.

    A mapping as ``preprocess`` replaces single settings.
    """

    model: str | None = None
    options: Mapping[str, Value] | None = None
    labels: tuple[str, ...] | None = None
    preprocess: Preprocess | Mapping[str, Any] | None = None


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


def describe(spec: ModelSpec, preprocess: Preprocess, given: Given) -> Metadata:
    """Return what a file without metadata is, by what the caller says of it, its labels at least."""
    assert given.labels is not None
    changes = given.preprocess
    return Metadata(
        format=FORMAT,
        model=spec.name,
        options=spec.with_defaults(given.options or {}),
        classes=len(given.labels),
        labels=given.labels,
        preprocess=changed(preprocess, changes) if isinstance(changes, Mapping) else changes or preprocess,
    )


def check(metadata: Metadata, given: Given, path: Path) -> None:
    """Check that metadata agree with themselves and with what the caller says; raises ``BadCheckpoint``."""
    if metadata.format > FORMAT:
        raise BadCheckpoint(
            f"'{path}' has checkpoint format {metadata.format}; this version reads up to {FORMAT}: "
            "upgrade edge-pipeline."
        )
    if len(metadata.labels) != metadata.classes or metadata.classes < 1:
        raise BadCheckpoint(f"'{path}' says {metadata.classes} classes and lists {len(metadata.labels)} labels.")
    if len(set(metadata.labels)) != len(metadata.labels):
        raise BadCheckpoint(f"'{path}' names the same label twice: {', '.join(metadata.labels)[:80]}.")
    _check_agrees("model", metadata.model, given.model, path)
    if given.options is not None:
        # A file from before an option existed was made with what is its default now.
        recorded = {**_defaults(metadata.model), **metadata.options}
        differing = {name: value for name, value in given.options.items() if recorded.get(name) != value}
        _check_agrees("options", {name: recorded.get(name) for name in differing}, differing, path)
    _check_agrees("labels", metadata.labels, given.labels, path)
    wanted = given.preprocess
    if isinstance(wanted, Mapping):
        wanted = changed(metadata.preprocess, wanted)
    _check_agrees("preprocess", metadata.preprocess, wanted, path)


def _check_agrees(name: str, recorded: object, given: object, path: Path) -> None:
    if given is not None and given != recorded:
        raise BadCheckpoint(f"'{path}' says {name} {_short(recorded)}, but {_short(given)} was given: leave it out.")


def _defaults(model: str) -> dict[str, Value]:
    return zoo.get(model).with_defaults({}) if zoo.knows(model) else {}


def changed(preprocess: Preprocess, changes: Mapping[str, Any]) -> Preprocess:
    """The same with some settings replaced; ``BadInput`` where they cannot be."""
    try:
        return msgspec.structs.replace(preprocess, **changes)
    except ValueError as error:
        raise BadInput(f"Preprocessing: {error}.") from error


def _short(value: object) -> str:
    """A recorded or given value in a few words; an input size stands for the whole preprocessing."""
    if isinstance(value, Preprocess):
        usual = Preprocess(height=value.height, width=value.width)
        pixels = "" if (value.mean, value.std) == (usual.mean, usual.std) else f", mean {value.mean}, std {value.std}"
        crop = f" cut from {value.resize_to}" if value.resize == "crop" else ""
        return f"input {value.height}×{value.width}{crop}{pixels}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
