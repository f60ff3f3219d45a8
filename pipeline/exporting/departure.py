"""The first operator at which a written file departs from the network that it was made of.

A delegate keeps no tensor but the outputs, so the network itself is cut: its first half is lowered, run and compared,
then a quarter more or less, until one operator is left. That takes about seven exports of a network of a hundred
operators, and is the same for every kind of file.
"""

from __future__ import annotations

import copy
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import torch
from torch.fx import Node

from calibration.quantize import quantize
from calibration.ranges import Ranges
from calibration.recipe import Recipe
from calibration.simulate import Simulator
from calibration.tensor_keys import WEIGHTED
from edge_apps.chatter import hushed
from edge_apps.runtime.content import Content
from edge_apps.runtime.manifest import FileManifest
from edge_apps.runtime.runner import open_runner
from pipeline.exporting.file_check import FLOAT_DB, GRAPH_DB
from pipeline.exporting.references import References
from pipeline.graphs.flat import FlatNetwork
from pipeline.metrics.sqnr import sqnr_db
from pipeline.quantization.captured import Captured
from pipeline.targets.base import Source, Target

IMAGES = 8
"""A departure shows on the first few images."""

MOST_VALUES = 1 << 17
"""Of a larger tensor only the first channels are compared: a file lists a label for each of its outputs."""


@dataclass(frozen=True)
class Departure:
    """An operator by the path of its module in the network and by its name."""

    path: str
    operator: str

    def __str__(self) -> str:
        return f"'{self.path}' ({self.operator})" if self.path else f"'{self.operator}'"


def first_departure(
    target: Target, manifest: FileManifest, references: References, step: Callable[[], None] = lambda: None
) -> Departure | None:
    """Return the operator whose result in the file is the first that is not the network's; None where none is found.

    ``manifest`` is that of the file. ``step`` is called before every export.
    """
    int8 = manifest.precision == "int8"
    whole = references.int8 if int8 else references.captured
    nodes = [node for node in whole.network.nodes if _is_comparable(node)]
    low, high = 0, len(nodes) - 1  # the first departure is in low…high
    found: Node | None = None
    while low <= high:
        middle = (low + high) // 2
        step()
        try:
            departs = _departs(target, manifest, whole, nodes[middle].name, references)
        except Exception:  # a piece that no exporter or runtime takes says nothing: look behind it
            departs = False
        if departs:
            found, high = nodes[middle], middle - 1
        else:
            low = middle + 1
    return None if found is None else _named(found)


def _named(node: Node) -> Departure:
    return Departure(str(node.meta["path"]), _operator(node))


def _is_comparable(node: Node) -> bool:
    value = node.meta.get("val")
    is_float = isinstance(value, torch.Tensor) and value.is_floating_point()
    return node.op in ("call_function", "call_module") and is_float


def _departs(target: Target, manifest: FileManifest, whole: Captured, name: str, references: References) -> bool:
    pixels = references.judged.pixels[:IMAGES]
    piece = whole.with_network(_up_to(whole.network, name))
    ranges = _of_piece(references.ranges, piece) if manifest.precision == "int8" else None
    expected = piece.logits(_reference(piece, ranges), pixels)
    labels = tuple(str(number) for number in range(expected.shape[1]))
    described = msgspec.structs.replace(manifest, labels=labels, output="logits")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"piece{target.suffix}"
        with hushed():
            target.lower(Source(piece.network, ranges), described, path)
            content = Content.read(path)
        runner = open_runner(content)
        try:
            answered = runner.run(pixels)
        finally:
            runner.close()
    if ranges is not None and not references.float_operators:
        return not np.array_equal(expected, answered)
    least = GRAPH_DB if ranges is not None else FLOAT_DB.get(manifest.precision, FLOAT_DB["fp16"])
    reached = sqnr_db(expected, answered) if np.isfinite(answered).all() else -math.inf
    return not reached >= least


def _reference(piece: Captured, ranges: Ranges | None) -> object:
    if ranges is None:
        return piece.graph()
    with hushed():
        return Simulator(quantize(piece.graph(), ranges, fold_weights=True)[0])


def _up_to(network: FlatNetwork, name: str) -> FlatNetwork:
    """A copy of a network that ends after the node of this name, its result flattened to ``[N, K]``."""
    piece = copy.deepcopy(network)
    node = next(node for node in piece.nodes if node.name == name)
    piece.end_at(node, MOST_VALUES)
    return piece


def _of_piece(ranges: Ranges | None, piece: Captured) -> Ranges:
    """The ranges, with a recipe that names no layers which the piece does not have."""
    assert ranges is not None
    from calibration.tensor_keys import module_path

    layers = [module_path(node) for node in piece.graph().graph.nodes if node.target in WEIGHTED]
    kept = tuple(
        pattern
        for pattern in ranges.recipe.float_layers
        if any(Recipe(float_layers=(pattern,)).keeps_float(layer) for layer in layers)
    )
    return msgspec.structs.replace(ranges, recipe=msgspec.structs.replace(ranges.recipe, float_layers=kept))


def _operator(node: Node) -> str:
    """``conv2d`` of ``aten.conv2d.default``; of a unit that took an operator's place, the name of that operator."""
    if node.op == "call_module":
        return str(node.target).rpartition(".")[2]
    packet = getattr(node.target, "overloadpacket", node.target)
    return str(getattr(packet, "__name__", packet))
