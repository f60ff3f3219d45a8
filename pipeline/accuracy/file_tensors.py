"""The tensors inside a real int8 ``.tflite``, against those of the float network: how the error grows along the way.

LiteRT keeps every tensor where it computes with its own kernels. On a device XNNPACK computes the same file, and
keeps none; how far the two sets of kernels agree on the logits is reported beside.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_apps.chatter import hushed
from edge_apps.runtime.manifest import Bundle
from edge_apps.runtime.runner import open_runner
from pipeline.accuracy.alone import OneByOne, Operator
from pipeline.accuracy.sqnr import sqnr_db, storable
from pipeline.captured import split
from pipeline.errors import MissingExtra

IMAGES = 64
"""Pictures that a file's tensors are compared on."""

LAYERS = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}
OTHERS = {
    "ADD": "add", "MUL": "mul", "MEAN": "mean", "CONCATENATION": "cat", "LOGISTIC": "sigmoid",
    "LEAKY_RELU": "leaky_relu",
}  # fmt: skip


class FileTensors(msgspec.Struct, frozen=True, kw_only=True):
    """What was looked into, on how many pictures; or the reason why nothing was.

    matched: tensors that are surely those of an operator, of so many operators. kernels_sqnr_db: the logits of
    LiteRT's own kernels against those of XNNPACK; same_class: the share of pictures for which both say the same class.
    """

    reason: str | None = None
    path: str | None = None
    runtime: str | None = None
    images: int = 0
    matched: int = 0
    operators: int = 0
    kernels_sqnr_db: float | None = None
    same_class: float | None = None


def compare_tensors(
    bundle: Bundle, walk: OneByOne, pixels: NDArray[np.uint8]
) -> tuple[FileTensors, dict[Operator, float]]:
    """SQNR of every tensor of the bundle's int8 ``.tflite`` that can be told for sure, in dB.

    ``pixels`` uint8 ``[N, H, W, 3]``; at most ``IMAGES`` of them are used, spread evenly. The mean over the pictures
    of each value is removed, as from logits.
    """
    entry = next((file for file in bundle.models() if file.target == "tflite" and file.precision == "int8"), None)
    if entry is None:
        return FileTensors(reason="The bundle has no int8 .tflite, the one kind of file whose tensors can be read."), {}
    path = bundle.verified(entry)
    pictures = pixels[:: math.ceil(len(pixels) / IMAGES)]
    try:
        runner = open_runner(path)
        looked_into = _Interpreter(path)
    except MissingExtra as error:
        return FileTensors(reason=str(error)), {}
    try:
        by_xnnpack = runner.run(pictures)
    finally:
        runner.close()
    tensors = looked_into.match(walk.operators)
    sums = {operator: _Sums() for operator in tensors}
    by_litert = []
    for batch, part in zip(*_batches(walk, pictures), strict=True):
        walk.see(batch)
        for row, picture in enumerate(part):
            by_litert.append(looked_into.run(picture))
            for operator, index in tensors.items():
                sums[operator].add(walk.result_of(operator.result)[row], looked_into.tensor(index))
    logits = np.stack(by_litert)
    found = {operator: storable(pooled.decibels()) for operator, pooled in sums.items() if pooled.comparable}
    return FileTensors(
        path=entry.path,
        runtime=runner.runtime,
        images=len(pictures),
        matched=len(found),
        operators=len(walk.operators),
        kernels_sqnr_db=storable(sqnr_db(by_xnnpack, logits)),
        same_class=float((by_xnnpack.argmax(1) == logits.argmax(1)).mean()),
    ), found


def _batches(walk: OneByOne, pictures: NDArray[np.uint8]) -> tuple[list[Any], Iterator[NDArray[np.uint8]]]:
    batches = split(pictures, walk.batch)
    return batches, (pictures[at : at + walk.batch] for at in range(0, len(pictures), walk.batch))


class _Interpreter:
    """LiteRT without a delegate, keeping every tensor."""

    def __init__(self, path: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        with hushed():
            self._interpreter: Any = Interpreter(
                model_path=str(path),
                num_threads=1,
                experimental_preserve_all_tensors=True,
                experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            )
            self._interpreter.allocate_tensors()
        self._details = {detail["index"]: detail for detail in self._interpreter.get_tensor_details()}
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]

    def run(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits ``[K]`` of one picture; its tensors can be read until the next."""
        self._interpreter.set_tensor(self._input, picture[None])
        self._interpreter.invoke()
        return self.tensor(self._output)

    def tensor(self, index: int) -> NDArray[np.float32]:
        """As real numbers, without the batch, channels first."""
        values = self._interpreter.get_tensor(index)[0]
        real: NDArray[np.float32] = values.astype(np.float32)
        if values.dtype == np.int8:
            scale, zero_point = self._details[index]["quantization"]
            real = (real - np.float32(zero_point)) * np.float32(scale)
        return np.moveaxis(real, -1, 0)

    def match(self, operators: tuple[Operator, ...]) -> dict[Operator, int]:
        """The tensor that each operator outputs, where exactly one of the file and one operator look alike.

        Alike: a layer's int8 weights, whatever their order, or what another operator does; scale and zero point of
        its inputs and of its output. Names and the order of execution play no part.
        """
        here = [(self._looks(piece), int(piece["outputs"][0])) for piece in self._interpreter._get_ops_details()]
        there = [(_looks(operator), operator) for operator in operators]
        in_file, in_graph = Counter(looks for looks, _ in here), Counter(looks for looks, _ in there)
        index = dict(here)
        return {
            operator: index[looks] for looks, operator in there if looks and in_file[looks] == in_graph[looks] == 1
        }

    def _looks(self, piece: Any) -> Hashable:
        name, inputs, output = piece["op_name"], [int(i) for i in piece["inputs"] if i >= 0], int(piece["outputs"][0])
        if self._details[output]["dtype"] != np.int8:
            return None
        if name in LAYERS:
            weights = self._interpreter.get_tensor(inputs[1])
            return _fingerprint(weights), self._qparams(inputs[:1]), self._qparams([output])
        return OTHERS.get(name), self._qparams(inputs), self._qparams([output])

    def _qparams(self, tensors: list[int]) -> frozenset[tuple[float, int]]:
        details = [self._details[index] for index in tensors]
        return frozenset(tuple(detail["quantization"]) for detail in details if detail["dtype"] == np.int8)


def _looks(operator: Operator) -> Hashable:
    kind = operator.name if operator.weight_steps is None else _fingerprint(operator.weight_steps)
    return kind, frozenset(map(tuple, operator.inputs.values())), frozenset([tuple(operator.qparams)])


def _fingerprint(weights: NDArray[np.int8]) -> str:
    """The same for every layout of the same weights."""
    return hashlib.sha256(np.sort(weights, axis=None).tobytes()).hexdigest()


class _Sums:
    """SQNR of pictures that come one by one, the mean of each value over them removed: what ``sqnr_db`` does at once.

    Σ (s − s̄)² = Σ s² − (Σ s)² / n, for the signal and, with s replaced by the difference, for the noise.
    """

    def __init__(self) -> None:
        self._count = 0
        self._signal: Any = 0.0
        self._noise: Any = 0.0
        self._signal_squares = self._noise_squares = 0.0
        self.comparable = True

    def add(self, reference: NDArray[np.float32], measured: NDArray[np.float32]) -> None:
        """One picture's tensor; ``comparable`` says no where the shapes differ."""
        if reference.shape != measured.shape:
            self.comparable = False
            return
        signal = reference.astype(np.float64)
        noise = measured - signal
        self._count += 1
        self._signal, self._noise = self._signal + signal, self._noise + noise
        self._signal_squares += float((signal**2).sum())
        self._noise_squares += float((noise**2).sum())

    def decibels(self) -> float:
        """10 · log10 (signal / noise)."""
        signal = self._signal_squares - float((self._signal**2).sum()) / self._count
        noise = self._noise_squares - float((self._noise**2).sum()) / self._count
        if noise <= 0:
            return math.inf
        return 10 * math.log10(signal / noise) if signal > 0 else -math.inf
