"""Which tensors of a checkpoint are the network's, under which names.

Training scripts put a network's state dict under a key, and wrappers put a prefix before its names: ``module.`` of
DataParallel, ``_orig_mod.`` of torch.compile, ``model.`` of a Lightning module. Both are taken off where what is left
fits the network exactly, and named; names that fit as they are stay as they are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from pipeline.checkpoints.state_dicts import AVERAGED, StateDict, is_averaged, words_of
from pipeline.errors import BadCheckpoint

PLACES = ("", "state_dict", "model_state_dict", "model_state", "model", "net", "network", "module", "params", "weights")
"""Keys under which the weights themselves are expected, the likeliest first."""

PREFIXES = frozenset({"module", "model", "net", "network", "backbone", "classifier", "student"})
"""Attributes under which wrappers and training modules hold the network, of equal standing."""

INVISIBLE = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"})
"""Names that torch and Lightning put anywhere in a path without the user's doing."""

PARALLEL = "module"
"""What DataParallel puts in front, and inside a path where it wraps a part. In front it counts as a prefix: of all."""

TRAINING_ONLY = AVERAGED - {"avg", "shadow"} | {
    "loss", "losses", "criterion", "criteria", "teacher", "metric", "metrics", "acc", "accuracy", "accuracies", "f1",
    "auroc", "confusion", "mixup", "augment", "augmentation", "augmentations", "discriminator", "perplexity",
}  # fmt: skip
"""Words in the names of modules that training scripts keep beside the network."""

NOT_WEIGHTS = frozenset({
    "n_averaged", "num_batches_tracked", "step", "steps", "initted", "total_ops", "total_params", "class_weight",
    "class_weights", "pos_weight",
})  # fmt: skip
"""Last parts of names that hold nothing which a network computes with: counters, and what thop and losses add."""

RAW, AVERAGE = "raw weights", "averaged weights (EMA)"


@dataclass(frozen=True)
class Chosen:
    """Tensors under the network's names.

    ``notes`` say what was taken off, left out, or taken in place of what; ``other`` names the weights where they are
    not those that are taken by default, and is empty otherwise.
    """

    tensors: dict[str, torch.Tensor]
    notes: tuple[str, ...] = ()
    other: str = ""


@dataclass(frozen=True)
class Wanted:
    """What is looked for: the tensors of a network, or names by which others' files are known.

    A file fits if some name ends in one of ``pivots``, and all of ``needed`` are there once what stands before the
    pivot is taken off. ``shapes`` are those of the network's tensors; None where all tensors are of interest.
    """

    pivots: tuple[str, ...]
    needed: frozenset[str] = frozenset()
    shapes: Mapping[str, torch.Size] | None = None

    @classmethod
    def network(cls, expected: Mapping[str, torch.Tensor]) -> Wanted:
        """All tensors of a network, of which only counters may be missing."""
        needed = frozenset(name for name in expected if not is_counter(name))
        longest = max(needed, key=lambda name: (name.count("."), len(name)), default=None)
        shapes = {name: tensor.shape for name, tensor in expected.items()}
        return cls(() if longest is None else (longest,), needed, shapes)

    @classmethod
    def marked(cls, marks: Collection[str]) -> Wanted:
        """One of these names; whoever renames the tensors looks at the others."""
        return cls(tuple(marks))

    def keeps(self, name: str) -> bool:
        """Whether a tensor of this name is the network's."""
        if self.shapes is not None:
            return name in self.shapes
        return is_counter(name) or name.rpartition(".")[2] not in NOT_WEIGHTS


@dataclass(frozen=True)
class _Match:
    """One way of reading the network out of the file.

    ``left_out`` are names without use for the network, ``strange`` those of which nothing says so.
    """

    source: StateDict
    prefix: str
    tensors: dict[str, torch.Tensor]
    left_out: tuple[str, ...]
    strange: tuple[str, ...]
    removed: tuple[str, ...]
    shapes_fit: bool

    @property
    def averaged(self) -> bool:
        """Whether something says that these are averaged weights."""
        return (
            self.source.averaged
            or is_averaged(self.prefix)
            or any(name.rpartition(".")[2] == "n_averaged" for name in self.left_out)
        )

    @property
    def where(self) -> str:
        """The keys and the prefix, as one path."""
        return f"{self.source.place}.{self.prefix}".strip(".")

    def rank(self) -> tuple[object, ...]:
        """Sorts the likeliest first."""
        *_, place = self.source.place.split(".")
        parts = self.prefix.split(".")[:-1]
        return (
            not self.shapes_fit,
            is_averaged(self.where),
            any(_is_training_only(part) for part in self.where.split(".")),
            PLACES.index(place) if place in PLACES else len(PLACES),
            self.source.place.count("."),
            sum(part not in PREFIXES for part in parts),
            len(parts),
        )


def is_counter(name: str) -> bool:
    """Batch norm's ``num_batches_tracked``: of no use for inference, and absent from older files."""
    return name.endswith("num_batches_tracked")


def take(sources: Sequence[StateDict], wanted: Wanted, averaged: bool | None, where: str) -> Chosen:
    """Return the tensors that are the network's, under its names; those that come nearest where none fit.

    ``averaged`` asks for averaged weights (EMA) or for the others; None takes the others if there are any.

    Raises:
        BadCheckpoint: averaged weights are asked for and there are none, or the others and there are only averaged
            ones; two sets that fit equally well; names that fit beside some that are not the network's.
    """
    found = [match for source in sources for match in _matches(source, wanted)]
    matches = sorted((match for match in found if not match.strange), key=_Match.rank)
    unnamed = [place for source in sources for place in source.unnamed]
    if not matches:
        _check_asked(averaged, any(source.averaged for source in sources), unnamed, where)
        _check_strange(found, where)
        return Chosen(_nearest(sources, wanted))
    _check_asked(averaged, any(match.averaged for match in matches), unnamed, where)
    asked = [match for match in matches if averaged in (None, match.averaged)]
    if not asked:
        raise BadCheckpoint(
            f"{where} holds averaged weights (EMA) only, under '{matches[0].where}': leave `ema=False` out."
        )
    taken = asked[0]
    rivals = [match for match in asked[1:] if match.rank() == taken.rank() and not _equal(match.tensors, taken.tensors)]
    if rivals:
        raise BadCheckpoint(
            f"{where} holds weights of this network more than once, under '{taken.where}' and '{rivals[0].where}': "
            "save the state dict of the one that you mean alone."
        )
    notes = [*_notes(taken, matches), *(f"{_about_unnamed(place)}: left out." for place in unnamed)]
    return Chosen(taken.tensors, tuple(notes), "" if taken is matches[0] else taken.where)


def _about_unnamed(place: str) -> str:
    return (
        f"The averaged weights (EMA) under '{place}' are a list of tensors without names, not read (torch_ema: "
        "save network.state_dict() within ema.average_parameters() to use it)"
    )


def _check_asked(averaged: bool | None, any_averaged: bool, unnamed: Sequence[str], where: str) -> None:
    if averaged and not any_averaged and unnamed:
        raise BadCheckpoint(f"{where} cannot be read with `ema`. {_about_unnamed(unnamed[0])}.")
    if averaged and not any_averaged:
        raise BadCheckpoint(f"{where} holds no averaged weights (EMA): leave `ema` out.")


def _check_strange(found: Sequence[_Match], where: str) -> None:
    """``BadCheckpoint`` where all tensors of the network are there, below a prefix, and others beside them."""
    for match in found:
        if match.prefix and not any(other.source is match.source and not other.prefix for other in found):
            more = f" and {len(match.strange) - 3} more" if len(match.strange) > 3 else ""
            raise BadCheckpoint(
                f"{where} fits once '{match.prefix}' is taken off its names, but it also holds "
                f"{', '.join(match.strange[:3])}{more}, which the network does not have. Save the state dict of the "
                "network alone."
            )


def _matches(source: StateDict, wanted: Wanted) -> Iterator[_Match]:
    """The prefixes that leave names which fit. The names as they are come first, so that they stay where they fit."""
    for invisible in (frozenset[str](), INVISIBLE, INVISIBLE | {PARALLEL}):
        names = _visible(source.tensors, wanted, invisible)
        found = [] if names is None else list(_by_prefix(source, names, wanted))
        yield from found
        if not all(match.strange for match in found):
            return


def _visible(tensors: Mapping[str, torch.Tensor], wanted: Wanted, invisible: frozenset[str]) -> dict[str, str] | None:
    """The file's names by what they are called in the network; None where two would be called the same."""

    def bare(name: str) -> str:
        parts = name.split(".")
        return ".".join(part for i, part in enumerate(parts) if part not in invisible or (part == PARALLEL and not i))

    own = {bare(name): name for name in wanted.shapes or ()}
    names = {own.get(bare(name), bare(name)): name for name in tensors}
    return names if len(names) == len(tensors) and len(own) == len(wanted.shapes or ()) else None


def _by_prefix(source: StateDict, names: Mapping[str, str], wanted: Wanted) -> Iterator[_Match]:
    """One match for each prefix that fits; ``names`` are the file's, by what they are called in the network."""
    fitting = [prefix for prefix in _prefixes(names, wanted) if all(prefix + name in names for name in wanted.needed)]
    for prefix in fitting:
        below = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
        kept = {name: source.tensors[names[prefix + name]] for name in below if wanted.keeps(name)}
        copies = tuple(other for other in fitting if other not in ("", prefix))
        mine = {prefix + name for name in kept}
        left = [name for name in names if name not in mine and not name.startswith(copies)]
        useless = [name for name in left if _is_of_no_use(name, prefix)]
        yield _Match(
            source=source,
            prefix=prefix,
            tensors=kept,
            left_out=(*(names[name] for name in useless), *(() if source.place else source.others)),
            strange=tuple(names[name] for name in left if name not in useless),
            removed=_removed(names, prefix, kept),
            shapes_fit=_fit(kept, wanted),
        )


def _prefixes(names: Collection[str], wanted: Wanted) -> list[str]:
    """What stands before a pivot, the shortest first."""
    found = {
        name.removesuffix(pivot)
        for pivot in wanted.pivots
        for name in names
        if name == pivot or name.endswith(f".{pivot}")
    }
    return sorted(found if wanted.pivots else {""}, key=len)


def _fit(tensors: Mapping[str, torch.Tensor], wanted: Wanted) -> bool:
    shapes = wanted.shapes or {}
    return all(tensor.shape == shapes.get(name, tensor.shape) for name, tensor in tensors.items())


def _is_of_no_use(name: str, prefix: str) -> bool:
    """Whether a tensor belongs to a module for training, or is a counter."""
    parts = name.removeprefix(prefix).split(".")
    return parts[-1] in NOT_WEIGHTS or _is_training_only(parts[0])


def _is_training_only(part: str) -> bool:
    return not TRAINING_ONLY.isdisjoint([*words_of(part), *part.lower().split("_")])


def _removed(names: Mapping[str, str], prefix: str, kept: Mapping[str, torch.Tensor]) -> tuple[str, ...]:
    """What was taken off the names: one beginning where all have the same, else the single parts."""
    whole = {names[prefix + name].removesuffix(name) for name in kept if names[prefix + name].endswith(name)}
    if len(whole) == 1 and all(names[prefix + name].endswith(name) for name in kept):
        return tuple(filter(None, whole))
    parts = dict.fromkeys(
        part for name in kept for part in names[prefix + name].split(".") if part not in name.split(".")
    )
    return tuple(f"{part}." for part in parts)


def _nearest(sources: Sequence[StateDict], wanted: Wanted) -> dict[str, torch.Tensor]:
    """The tensors with the most names of the network, less a prefix that all of them have: for the error message."""
    nearest: dict[str, torch.Tensor] = {}
    for source in sources:
        prefix, names = "", list(source.tensors)
        while True:
            tensors = {name.removeprefix(prefix): tensor for name, tensor in source.tensors.items()}
            if not nearest or len(wanted.needed & tensors.keys()) > len(wanted.needed & nearest.keys()):
                nearest = tensors
            firsts = {name.removeprefix(prefix).partition(".")[0] for name in names}
            if len(firsts) != 1 or any(name.removeprefix(prefix).count(".") < 1 for name in names):
                break
            prefix += f"{firsts.pop()}."
    return nearest


def _equal(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(_same(tensor, b[name]) for name, tensor in a.items())


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    if a is b:
        return True
    plain = all(tensor.layout == torch.strided and not tensor.is_meta for tensor in (a, b))
    return plain and a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b)


def _notes(taken: _Match, matches: Sequence[_Match]) -> Iterator[str]:
    """What a user should know of how the file was read, a line each; nothing for a plain state dict."""
    parts = []
    if taken.source.place:
        parts.append(f"the weights are under '{taken.source.place}'")
    if taken.removed:
        parts.append(f"{' and '.join(map(repr, taken.removed))} was taken off the names of the tensors")
    if parts:
        yield f"In the checkpoint {', and '.join(parts)}."
    others = [match for match in matches if match is not taken]
    other_kind = [match for match in others if match.averaged != taken.averaged]
    if other_kind:
        mine, theirs = (RAW, AVERAGE) if not taken.averaged else (AVERAGE, RAW)
        option = "`ema=False`" if taken.averaged else "`ema`"
        yield f"The {mine}{_under(taken)} are taken; {option} takes the {theirs}{_under(other_kind[0])}."
    elif taken.averaged:
        yield f"These are {AVERAGE}{_under(taken)}; the checkpoint holds no raw ones."
    same_kind = [match for match in others if match.averaged == taken.averaged]
    different = [match.where for match in same_kind if not _equal(match.tensors, taken.tensors)]
    if different:
        under = ", ".join(map(repr, different[:3]))
        yield f"The checkpoint also holds weights of this network under {under}: left out."
    if taken.left_out:
        more = f" and {len(taken.left_out) - 5} more" if len(taken.left_out) > 5 else ""
        yield f"Left out of the checkpoint, not part of the network: {', '.join(taken.left_out[:5])}{more}."


def _under(match: _Match) -> str:
    return f" under '{match.where}'" if match.where else ""
