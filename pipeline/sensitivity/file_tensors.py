"""The tensors inside a real int8 ``.tflite``, against those of the float network: how the error grows along the way.

XNNPACK, which computes the file on a device, keeps no tensor but the outputs. So a copy is made in memory in which
every int8 tensor is an output. Handing tensors out must not change what is computed: the copy's logits are held against
those of the file itself, and unless they are the same to the last bit nothing is reported.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Hashable
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from calibration.axes import batch_axis
from edge_apps.chatter import hushed
from edge_apps.runtime.content import Content
from edge_apps.runtime.manifest import Bundle
from edge_apps.runtime.runner import open_runner
from pipeline.compat.ai_edge_litert import DELEGATE, operators_of
from pipeline.errors import MissingExtra
from pipeline.metrics.sqnr import storable
from pipeline.quantization.captured import split
from pipeline.quantization.one_by_one import OneByOne, Operator
from pipeline.targets.tflite import LAYERS, read_model, write_model

IMAGES = 64
"""Pictures that a file's tensors are compared on."""

OTHERS = {
    "ADD": "add", "MUL": "mul", "MEAN": "mean", "CONCATENATION": "cat", "LOGISTIC": "sigmoid",
    "LEAKY_RELU": "leaky_relu",
}  # fmt: skip


class FileTensors(msgspec.Struct, frozen=True, kw_only=True):
    """What was looked into, on how many pictures; or the reason why nothing was.

    matched: of so many operators, those of which one tensor of the file is surely the result.
    """

    reason: str | None = None
    path: str | None = None
    runtime: str | None = None
    images: int = 0
    matched: int = 0
    operators: int = 0


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
    content = bundle.read(entry)
    pictures = pixels[:: math.ceil(len(pixels) / IMAGES)]
    try:
        runner = open_runner(content)
    except MissingExtra as error:
        return FileTensors(reason=str(error)), {}
    try:
        logits = runner.run(pictures)
    finally:
        runner.close()
    opened = _OpenedUp(content)
    tensors = opened.match(walk.operators)
    sums = {operator: _AnyLayout() for operator in tensors}
    answers = []
    for at in range(0, len(pictures), walk.batch):
        part = pictures[at : at + walk.batch]
        walk.see(split(part, walk.batch)[0])
        for row, picture in enumerate(part):
            answers.append(opened.run(picture))
            for operator, index in tensors.items():
                result = of_image(walk.result_of(operator.result), batch_axis(operator.result), row, len(part))
                sums[operator].add(result, opened.tensor(index))
    if not np.array_equal(np.stack(answers), logits):
        return FileTensors(reason=f"'{entry.path}' computes something else when its tensors are handed out."), {}
    found = {operator: storable(pooled.decibels()) for operator, pooled in sums.items() if pooled.comparable}
    return FileTensors(
        path=entry.path,
        runtime=runner.runtime,
        images=len(pictures),
        matched=len(found),
        operators=len(walk.operators),
    ), found


class _OpenedUp:
    """A file's copy that hands out every int8 tensor."""

    def __init__(self, content: Content) -> None:
        from ai_edge_litert.interpreter import Interpreter

        with hushed():
            self._interpreter: Any = Interpreter(model_content=_with_all_outputs(content.data), num_threads=1)
            self._interpreter.allocate_tensors()
        self._details = {detail["index"]: detail for detail in self._interpreter.get_tensor_details()}
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._logits = self._interpreter.get_output_details()[0]["index"]

    def run(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits ``[K]`` of one picture; its tensors can be read until the next."""
        self._interpreter.set_tensor(self._input, picture[None])
        self._interpreter.invoke()
        logits: NDArray[np.float32] = self.tensor(self._logits)[0]
        return logits

    def tensor(self, index: int) -> NDArray[np.float32]:
        """As real numbers, in the layout of the file."""
        values = self._interpreter.get_tensor(index)
        real: NDArray[np.float32] = values.astype(np.float32)
        if values.dtype == np.int8:
            scale, zero_point = self._details[index]["quantization"]
            real = (real - np.float32(zero_point)) * np.float32(scale)
        return real

    def match(self, operators: tuple[Operator, ...]) -> dict[Operator, int]:
        """The tensor that each operator outputs, where exactly one of the file and one operator look alike.

        Alike: a layer's int8 weights, whatever their order, or what another operator does; scale and zero point of
        its inputs and of its output. Names and the order of execution play no part.
        """
        here = [(self._looks(piece), int(piece["outputs"][0])) for piece in operators_of(self._interpreter)]
        there = [(_looks(operator), operator) for operator in operators]
        in_file, in_graph = Counter(looks for looks, _ in here), Counter(looks for looks, _ in there)
        index = dict(here)
        return {operator: index[looks] for looks, operator in there if in_file[looks] == in_graph[looks] == 1}

    def _looks(self, piece: Any) -> Hashable:
        name, inputs, output = piece["op_name"], [int(i) for i in piece["inputs"] if i >= 0], int(piece["outputs"][0])
        if self._details[output]["dtype"] != np.int8 or name == DELEGATE:
            return None
        if name in LAYERS:
            weights = self._interpreter.get_tensor(inputs[1])
            return _fingerprint(weights), self._qparams(inputs[:1]), self._qparams([output])
        return OTHERS.get(name), self._qparams(inputs), self._qparams([output])

    def _qparams(self, tensors: list[int]) -> frozenset[tuple[float, int]]:
        details = [self._details[index] for index in tensors]
        return frozenset(tuple(detail["quantization"]) for detail in details if detail["dtype"] == np.int8)


def _with_all_outputs(data: bytes) -> bytes:
    """A model with every int8 result as an output, behind those that it has."""
    from ai_edge_litert import schema_py_generated as schema

    model = read_model(data)
    graph = model.subgraphs[0]
    results = [int(operator.outputs[0]) for operator in graph.operators]
    int8 = [index for index in results if graph.tensors[index].type == schema.TensorType.INT8]
    graph.outputs = np.array(list(dict.fromkeys([*map(int, graph.outputs), *int8])), np.int32)
    model.signatureDefs = None  # they name the outputs, and know of the first ones only
    return write_model(model)


def _looks(operator: Operator) -> Hashable:
    kind = operator.name if operator.weight_steps is None else _fingerprint(operator.weight_steps)
    return kind, frozenset(map(tuple, operator.inputs.values())), frozenset([tuple(operator.qparams)])


def _fingerprint(weights: NDArray[np.int8]) -> str:
    """The same for every layout of the same weights."""
    return hashlib.sha256(np.sort(weights, axis=None).tobytes()).hexdigest()


def of_image(values: NDArray[np.float32], axis: int, row: int, count: int) -> NDArray[np.float32]:
    """Return the part of one image of a batch of ``count``, whose entries lie on ``axis``, some for each image."""
    entries = values.shape[axis] // count
    own: NDArray[np.float32] = np.take(values, range(row * entries, (row + 1) * entries), axis)
    return own


def layouts(values: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Return a tensor of the file as it is and with channels first, both without axes of one value.

    The converter puts channels last around convolutions, and leaves tokens as they are. Which of both a tensor is in
    stands nowhere.
    """
    return [np.squeeze(values), np.squeeze(np.moveaxis(values, -1, 1))]


class _AnyLayout:
    """SQNR of a tensor in the layout of its file in which it is nearer: in another one it is noise."""

    def __init__(self) -> None:
        self._sums = [_Sums(), _Sums()]

    def add(self, reference: NDArray[np.float32], measured: NDArray[np.float32]) -> None:
        """Take in one image's tensor, with the axis of the batch."""
        for sums, values in zip(self._sums, layouts(measured), strict=True):
            sums.add(reference, values)

    @property
    def comparable(self) -> bool:
        """Whether the shapes agree in one of the layouts."""
        return any(sums.comparable for sums in self._sums)

    def decibels(self) -> float:
        """Return the SQNR in the better layout."""
        return max(sums.decibels() for sums in self._sums if sums.comparable)


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
        signal = np.squeeze(reference).astype(np.float64)  # a mean over all positions: [C, 1, 1] here, [C] there
        if signal.shape != np.squeeze(measured).shape:
            self.comparable = False
            return
        noise = np.squeeze(measured) - signal
        self._count += 1
        self._signal, self._noise = self._signal + signal, self._noise + noise
        self._signal_squares += float((signal**2).sum())
        self._noise_squares += float((noise**2).sum())

    def decibels(self) -> float:
        """10 · log10 (signal / noise); of a single picture, which is its own mean, nothing is removed."""
        signal, noise = self._signal_squares, self._noise_squares
        if self._count > 1:
            signal -= float((self._signal**2).sum()) / self._count
            noise -= float((self._noise**2).sum()) / self._count
        if noise <= 0:
            return math.inf
        return 10 * math.log10(signal / noise) if signal > 0 else -math.inf
