"""Where it hurts: each operator of a bundle's int8 network alone in int8, and the real file's tensors one by one."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from calibration.dataset.sampling import ClassBalanced
from edge_apps.images import ImageSet
from edge_apps.runtime.device import usable_cores
from edge_apps.runtime.manifest import Bundle, Word, load_bundle
from pipeline.bundles.reopen import Rebuilt, rebuild
from pipeline.data.classes import matched
from pipeline.data.reading import digest, load_all
from pipeline.data.subset import Subset
from pipeline.errors import BadInput
from pipeline.evaluation.inference import run_graph
from pipeline.metrics.paired import agreement
from pipeline.metrics.sqnr import sqnr_db, storable
from pipeline.quantization.captured import split
from pipeline.sensitivity.file_tensors import FileTensors, compare_tensors
from pipeline.sensitivity.one_by_one import OneByOne, Operator

FORMAT = 1
"""Version of the JSON."""

IMAGES = 512
"""Pictures that are looked at unless another number is asked for."""

QUICK_IMAGES = 64
"""Enough to name the most damaged layer."""

WORST = 4
"""One in so many pictures is among the worst hit."""

Advance = Callable[[int], None]
"""Told how many pictures more are done with."""


class OperatorResult(msgspec.Struct, frozen=True, kw_only=True):
    """One int8 operator, alone in int8.

    sqnr_db: of the logits, against the float network's. worst_top1: on the pictures that the whole int8 network hits
    hardest. file_sqnr_db: of its tensor in the real file, in which everything before it is int8 too; None where the
    file was not looked into or holds no tensor that is surely this one. weighted: a convolution or linear layer.
    """

    path: str
    operator: str
    weighted: bool
    sqnr_db: float
    worst_top1: float
    file_sqnr_db: float | None


class WorstHit(msgspec.Struct, frozen=True, kw_only=True):
    """The quarter of the pictures whose logits the int8 network changes most, relative to the float logits."""

    images: int
    float_top1: float
    int8_top1: float


class Sensitivity(msgspec.Struct, frozen=True, kw_only=True):
    """All of one measurement; ``operators`` in the order in which the network computes them.

    int8_sqnr_db and int8_agreement: of the whole int8 network's logits (simulated), repaired if the recipe has
    repairs; how near they are to the float network's, and on how many of the images both give the same class.
    verdicts: the export's words for the bundle's files, by path; nothing stops for a bad one here.
    """

    format: int
    bundle: str
    model: str
    data: str
    data_sha256: str
    images: int
    seed: int
    float_layers: tuple[str, ...]
    int8_sqnr_db: float
    int8_agreement: float
    verdicts: dict[str, Word]
    worst: WorstHit
    file: FileTensors
    operators: tuple[OperatorResult, ...]

    def by_damage(self) -> tuple[OperatorResult, ...]:
        """The most damaging first."""
        return tuple(sorted(self.operators, key=lambda operator: operator.sqnr_db))

    def to_json(self) -> bytes:
        """Indented JSON, UTF-8."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1)


@dataclass(frozen=True)
class Alone:
    """Logits ``[N, K]``: of the float network, and of it with each of the operators in int8."""

    floating: NDArray[np.float32]
    operators: tuple[Operator, ...]
    with_one: tuple[NDArray[np.float32], ...]

    def decibels(self) -> list[float]:
        """SQNR of each operator's logits."""
        return [storable(sqnr_db(self.floating, logits)) for logits in self.with_one]

    def ranking(self) -> dict[str, float]:
        """Layers by their paths with dB, the most damaging first; of one path's several operators, the worst counts."""
        found: dict[str, float] = {}
        for operator, decibels in zip(self.operators, self.decibels(), strict=True):
            if operator.is_layer:
                found[operator.path] = min(decibels, found.get(operator.path, math.inf))
        return dict(sorted(found.items(), key=lambda item: item[1]))


def one_by_one(walk: OneByOne, pixels: NDArray[np.uint8], advance: Advance) -> Alone:
    """Compute the logits of pictures uint8 ``[N, H, W, 3]`` with each operator alone in int8."""
    batches = split(pixels, walk.batch)
    walks: SimpleQueue[OneByOne] = SimpleQueue()
    threads = min(usable_cores(), len(batches))
    for _ in range(threads):
        walks.put(copy.copy(walk))

    def work(batch: torch.Tensor) -> list[NDArray[np.float32]]:
        own = walks.get()
        try:
            own.see(batch)
            return [own.logits(), *(own.logits_with(operator) for operator in walk.operators)]
        finally:
            walks.put(own)

    found: list[list[NDArray[np.float32]]] = []
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # batches side by side: torch's own threads spin where cores are shared
    try:
        with ThreadPoolExecutor(threads) as pool:
            try:
                for answered, batch in zip(pool.map(work, batches), batches, strict=True):
                    found.append(answered)
                    advance(len(batch))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    finally:
        torch.set_num_threads(before)
    floating, *with_one = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return Alone(floating, walk.operators, tuple(with_one))


def open_int8(root: Path) -> Rebuilt:
    """A bundle's graphs; ``BadInput`` where it has no int8 file. Also raises what ``rebuild`` does."""
    rebuilt = rebuild(load_bundle(root))
    if rebuilt is None:
        raise BadInput(f"Bundle '{root}' has no int8 file: export one with `precision=int8`.")
    return rebuilt


def measure(rebuilt: Rebuilt, images: ImageSet, seed: int, advance: Advance) -> Sensitivity:
    """Measure a bundle's int8 network on pictures; ``seed`` is that of their draw, for the record.

    Raises:
        BadInput: a class of the data is no label. BadImage: a corrupt picture.
    """
    bundle = rebuilt.bundle
    labels = np.asarray(matched(images, bundle.manifest.labels).labels)
    pixels = load_all(images, bundle.manifest.preprocess).images
    walk = OneByOne(rebuilt.scaled_graph(), rebuilt.quantized_graph, rebuilt.ranges)
    alone = one_by_one(walk, pixels, advance)
    int8 = run_graph(rebuilt.simulator, pixels, usable_cores(), lambda _: None)
    worst = worst_hit(alone.floating, int8)

    def top1(logits: NDArray[np.float32]) -> float:
        return float((logits[worst].argmax(1) == labels[worst]).mean())

    file, in_file = compare_tensors(bundle, walk, pixels)
    return Sensitivity(
        format=FORMAT,
        bundle=bundle.root.name,
        model=bundle.manifest.model,
        data=images.name,
        data_sha256=digest(images),
        images=len(images),
        seed=seed,
        float_layers=tuple(dict.fromkeys(layer for file in bundle.models() for layer in file.float_layers)),
        int8_sqnr_db=storable(sqnr_db(alone.floating, int8)),
        int8_agreement=agreement(alone.floating.argmax(1), int8.argmax(1)),
        verdicts={file.path: file.comparison.word for file in bundle.models() if file.comparison.word is not None},
        worst=WorstHit(images=len(worst), float_top1=top1(alone.floating), int8_top1=top1(int8)),
        file=file,
        operators=tuple(
            OperatorResult(
                path=operator.path,
                operator=operator.name,
                weighted=operator.is_layer,
                sqnr_db=decibels,
                worst_top1=top1(logits),
                file_sqnr_db=in_file.get(operator),
            )
            for operator, decibels, logits in zip(alone.operators, alone.decibels(), alone.with_one, strict=True)
        ),
    )


def most_damaged(bundle: Bundle, images: ImageSet) -> tuple[str, float] | None:
    """The layer whose rounding alone changes the logits most, and their SQNR in dB; None where nothing is int8.

    Looks at ``QUICK_IMAGES`` of the images, class-balanced, the same at each run.
    """
    rebuilt = rebuild(bundle)
    if rebuilt is None:
        return None
    few = Subset(images, ClassBalanced(images.labels, 0).take(min(QUICK_IMAGES, len(images))))
    walk = OneByOne(rebuilt.scaled_graph(), rebuilt.quantized_graph, rebuilt.ranges)
    return most_damaged_layer(walk, load_all(few, bundle.manifest.preprocess).images)


def most_damaged_layer(walk: OneByOne, pixels: NDArray[np.uint8]) -> tuple[str, float] | None:
    """Return the layer whose rounding alone changes the logits of images uint8 ``[N, H, W, 3]`` most, and their dB.

    Leaves only layers in ``walk``; None where there is none in int8.
    """
    walk.operators = tuple(operator for operator in walk.operators if operator.is_layer)
    return next(iter(one_by_one(walk, pixels, lambda _: None).ranking().items()), None)


def worst_hit(floating: NDArray[np.float32], int8: NDArray[np.float32]) -> NDArray[np.intp]:
    """Indices of the quarter of pictures with the largest ‖int8 − float‖ / ‖float‖ of their logits ``[N, K]``."""
    change = np.linalg.norm(int8 - floating, axis=1)
    size = np.linalg.norm(floating, axis=1)
    relative = change / np.maximum(size, np.finfo(np.float32).tiny)
    return np.argsort(-relative, kind="stable")[: math.ceil(len(floating) / WORST)]
