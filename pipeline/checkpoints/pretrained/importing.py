"""From a file that torchvision or timm published, or that was trained with them, to a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.checkpoints.choosing import Wanted, take
from pipeline.checkpoints.formats import Format
from pipeline.checkpoints.key_mappings import SPELLINGS, Spelling, marks, recognise
from pipeline.checkpoints.load import fitted, read, sha256_of
from pipeline.checkpoints.metadata import changed
from pipeline.checkpoints.pretrained.download import fetch
from pipeline.checkpoints.pretrained.published import Published, choose, of_sha256, sets_of
from pipeline.data import imagenet
from pipeline.errors import BadCheckpoint, BadInput
from pipeline.zoo.spec import ModelSpec, Value


@dataclass(frozen=True)
class Imported:
    """A checkpoint, and how it came about.

    ``published`` is the set whose preprocessing it has; ``recognised`` says that the file's hash is that set's, and
    not that the set was assumed. ``left_out`` are tensors that the network has no use for.
    """

    checkpoint: Checkpoint
    spelling: str
    published: Published
    recognised: bool
    left_out: tuple[str, ...]

    def notes(self) -> tuple[str, ...]:
        """What the user should know of it, a line each."""
        published, known = self.published, self.checkpoint
        why = "its file, by sha256" if self.recognised else "assumed, the file is none that was published"
        lines = [
            *known.notes,
            f"Tensors named as by {self.spelling}; options {_words(known.options)}.",
            f"Preprocessing of {published.library} {published.name} ({why}): {_sizes(published)}; devices resize with "
            f"{known.preprocess.interpolation} instead.",
            f"Pixels 0…1 less mean {_numbers(known.preprocess.mean)}, divided by std {_numbers(known.preprocess.std)}.",
        ]
        if self.left_out:
            beginnings = ", ".join(dict.fromkeys(f"{name.partition('.')[0]}.*" for name in self.left_out))
            lines.append(f"Left out, of use in training only: {len(self.left_out)} tensors {beginnings}.")
        return tuple(lines)


def imagenet_weights(spec: ModelSpec, options: Mapping[str, Value] | None = None, name: str | None = None) -> Imported:
    """The published ImageNet weights of a model, downloaded if they are not in the cache.

    Raises:
        BadInput: nothing is published for this model, these options, or under this name; an unwritable cache.
        DownloadFailed: it cannot be had, or is not what was published.
    """
    given = options or {}
    spec.with_defaults(given)
    published = choose(spec, name, given)
    _check_published(spec, published, given)
    return import_file(fetch(published), spec, options=given, set_name=published.name)


def _check_published(spec: ModelSpec, published: Published, given: Mapping[str, Value]) -> None:
    """Refuse, before half a gigabyte is downloaded, options that the published network does not have."""
    spelling = next(each for each in SPELLINGS if spec.name in each.models and published.name.startswith(each.sets))
    names = ("features.1.running_mean",) if published.options.get("batch_norm") else ()
    fixed = spelling.fixed(spec.name, names)
    chosen = _options(spec, given, fixed, spelling)
    theirs = spec.with_defaults(fixed)
    if _shapes(spec, chosen) != _shapes(spec, theirs):
        other = ", ".join(f"{key} {value}" for key, value in chosen.items() if value != theirs[key])
        raise BadInput(
            f"The published weights of '{spec.name}' do not fit {other}: leave that out, or train that network."
        )


def _shapes(spec: ModelSpec, options: Mapping[str, Value]) -> dict[str, torch.Size]:
    with torch.device("meta"):
        state = spec.build(imagenet.CLASSES, **options).state_dict()
    return {name: tensor.shape for name, tensor in state.items()}


def import_file(
    path: Path,
    spec: ModelSpec,
    *,
    options: Mapping[str, Value] | None = None,
    labels: tuple[str, ...] | None = None,
    set_name: str | None = None,
    normalisation: Mapping[str, Any] | None = None,
    ema: bool | None = None,
) -> Imported:
    """Read a state dict of torchvision or timm as the zoo's ``spec``, strictly.

    ``labels`` default to ImageNet's where the classifier has 1,000 outputs. ``set_name`` is the published set that the
    file is, or was trained like; by default that whose hash it has, or else the first for its spelling. Of a file that
    was not published ``normalisation`` may say another ``mean`` and ``std``. ``ema`` chooses as in ``load.load``.

    Raises:
        BadCheckpoint: not a state dict, in no known spelling, or tensors that do not fit. BadInput: options that the
            source's model does not have, labels missing or too few, an unknown set.
    """
    contents = read(path)
    if contents.format is Format.PROGRAM:
        raise BadCheckpoint(
            f"'{path}' is an exported program, which brings its network along and needs no import: "
            "'pipeline export' reads it."
        )
    if contents.metadata is not None:
        raise BadCheckpoint(
            f"'{path}' already is a checkpoint of this program (of '{contents.metadata.model}'): use it as it is."
        )
    taken = take(contents.state_dicts, Wanted.marked(marks(spec.name)), ema, f"'{path}'")
    tensors, sha256 = taken.tensors, sha256_of(contents.data, taken)
    spelling = recognise(spec.name, tensors, f"'{path}'")
    published, recognised = _set(path, spec, spelling, sha256, set_name)
    if normalisation and recognised:
        raise BadInput(
            f"'{path}' is the published set '{published.name}', whose mean and std are known: leave them out."
        )
    chosen = _options(spec, options or {}, spelling.fixed(spec.name, tensors), spelling)
    places = {name: spelling.place(name) for name in tensors}
    renamed = _renamed(tensors, places, path)
    names = _labels(path, renamed, spec, chosen, labels)
    state = fitted(renamed, spec, chosen, len(names), f"'{path}' ({spelling.name})")
    left_out = tuple(name for name, place in places.items() if place is None)
    record: dict[str, Any] = {
        "file": path.name,
        "spelling": spelling.name,
        "preprocessing_of": f"{published.library} {published.name}",
        "left_out": list(left_out),
    }
    if recognised:
        record["url"] = published.url
    checkpoint = Checkpoint(
        path=path,
        sha256=sha256,
        content=contents.data,
        describes_itself=False,
        spec=spec,
        options=chosen,
        labels=names,
        preprocess=changed(published.preprocess, normalisation or {}),
        state=state,
        training={"imported": record},
        notes=taken.notes,
    )
    return Imported(checkpoint, spelling.name, published, recognised, left_out)


def _words(options: Mapping[str, Value]) -> str:
    return ", ".join(f"{name} {value}" for name, value in options.items()) or "none"


def _numbers(values: tuple[float, float, float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _sizes(published: Published) -> str:
    return (
        f"shorter side to {published.resize_to} ({published.interpolation}, antialiased), centre "
        f"{published.size}×{published.size}"
    )


def classifier_tensors(spec: ModelSpec, options: Mapping[str, Value]) -> tuple[str, ...]:
    """The tensors of a network whose first dimension is the number of classes."""
    with torch.device("meta"):
        one, two = (spec.build(classes, **options).state_dict() for classes in (1, 2))
    return tuple(name for name in one if one[name].shape != two[name].shape)


def _set(path: Path, spec: ModelSpec, spelling: Spelling, sha256: str, name: str | None) -> tuple[Published, bool]:
    """The published set whose preprocessing counts, and whether the file is that very set."""
    known_file = of_sha256(sha256)
    if known_file is not None and known_file.model != spec.name:
        raise BadCheckpoint(f"'{path}' is the published file of '{known_file.model}', not of '{spec.name}'.")
    rows = [row for row in sets_of(spec.name) if row.name.startswith(spelling.sets)] or [*sets_of(spec.name)]
    known = list(dict.fromkeys(row.name for row in rows))
    if name is not None and name not in known:
        raise BadInput(f"Unknown weight set '{name}' for '{spec.name}' ({spelling.name}). Known: {', '.join(known)}.")
    if known_file is not None and name not in (None, known_file.name):
        raise BadInput(f"'{path}' is the published set '{known_file.name}', but '{name}' was given: leave it out.")
    return known_file or next(row for row in rows if name in (None, row.name)), known_file is not None


def _options(
    spec: ModelSpec, given: Mapping[str, Value], fixed: Mapping[str, Value], spelling: Spelling
) -> dict[str, Value]:
    """All options: those that the source fixes, which the given ones must not contradict."""
    chosen = spec.with_defaults({**given, **fixed})
    for name, value in given.items():
        if name in fixed and spec.options[name].check(name, value) != chosen[name]:
            raise BadInput(
                f"Weights of {spelling.name} have {name} {chosen[name]}, but {value} was given: leave it out."
            )
    return chosen


def _renamed(
    tensors: Mapping[str, torch.Tensor], places: Mapping[str, str | None], path: Path
) -> dict[str, torch.Tensor]:
    """The tensors under the zoo's names; no two may ask for the same place."""
    renamed: dict[str, torch.Tensor] = {}
    for name, place in places.items():
        if place in renamed:
            raise BadCheckpoint(f"'{path}' has two tensors for '{place}': '{name}' is one too many.")
        if place is not None:
            renamed[place] = tensors[name]
    return renamed


def _labels(
    path: Path,
    tensors: Mapping[str, torch.Tensor],
    spec: ModelSpec,
    options: Mapping[str, Value],
    given: tuple[str, ...] | None,
) -> tuple[str, ...]:
    """One name for each output of the classifier."""
    found = [tensors[name] for name in classifier_tensors(spec, options) if name in tensors]
    outputs = max((tensor.shape[0] for tensor in found if tensor.dim()), default=imagenet.CLASSES)
    if given is None and outputs == imagenet.CLASSES:
        return imagenet.labels()
    if given is None:
        raise BadInput(f"'{path}' tells {outputs} classes apart, ImageNet has 1,000: name them with `labels` FILE.")
    if len(given) != outputs:
        raise BadInput(f"'{path}' tells {outputs} classes apart, and {len(given)} labels were given.")
    return given
