"""Runs ``.tflite`` files: ai-edge-litert, else tflite-runtime, its predecessor with the same interface."""

from __future__ import annotations

import functools
import importlib.metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_apps.chatter import hushed
from edge_apps.compat.litert import interpreter_of, lacks_operator
from edge_apps.errors import BadInput, MissingExtra, first_line, install
from edge_apps.runtime.content import Content
from edge_apps.runtime.manifest import METADATA_NAME, FileManifest, no_file_manifest, parse_file_manifest
from edge_apps.runtime.registry import check_batch, check_outputs, register_runner

# Field positions in the vtables of the TFLite schema (schema.fbs, file identifier TFL3).
_MODEL_BUFFERS, _MODEL_METADATA = 12, 16
_METADATA_NAME, _METADATA_BUFFER = 4, 6
_BUFFER_DATA = 4


class LiteRTRunner:
    """One interpreter. int8 outputs are returned as the real numbers they stand for.

    Without ``xnnpack`` LiteRT's own kernels compute, which round some sums otherwise; ``runtime`` says so then.
    """

    def __init__(self, content: Content, threads: int, *, xnnpack: bool = True) -> None:
        library, self.runtime = _library()
        if not xnnpack:
            self.runtime += " without XNNPACK"
        self.path = path = content.path
        self.threads = threads
        data = content.data
        self.manifest = _read_manifest(data, path)
        try:
            with hushed():  # "INFO: Created TensorFlow Lite XNNPACK delegate for CPU."
                self._interpreter: Any = interpreter_of(library, data, threads, xnnpack=xnnpack)
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise BadInput(f"{self.runtime} cannot load '{path}': {first_line(error)}. {_remedy(error)}") from error
        self._input = self._interpreter.get_input_details()[0]
        self._output = self._interpreter.get_output_details()[0]
        check_outputs(int(self._output["shape"][-1]), self.manifest, path)

    def run(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits float32 ``[N, K]`` of uint8 ``[N, H, W, 3]``, one picture at a time."""
        check_batch(batch, self.manifest)
        logits = np.empty((len(batch), len(self.manifest.labels)), np.float32)
        for row, picture in enumerate(batch):
            self._interpreter.set_tensor(self._input["index"], picture[None])
            self._interpreter.invoke()
            logits[row] = self._real(self._interpreter.get_tensor(self._output["index"])[0])
        return logits

    def close(self) -> None:
        """Free the interpreter."""
        self._interpreter = None

    def _real(self, values: NDArray[Any]) -> NDArray[np.float32]:
        scale, zero_point = (1.0, 0) if values.dtype == np.float32 else self._output["quantization"]
        real: NDArray[np.float32] = (values.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)
        return real


def _remedy(error: Exception) -> str:
    """Return what helps a file that is not loaded: another file, or where an operator is missing another runtime."""
    if lacks_operator(error):
        return "This runtime does not have that operator: upgrade it, or write that layer with other operators."
    return "Export it again."


def _library() -> tuple[Any, str]:
    try:
        from ai_edge_litert import interpreter

        return interpreter, f"ai-edge-litert {importlib.metadata.version('ai-edge-litert')}"
    except ImportError:
        pass
    try:
        from tflite_runtime import interpreter

        return interpreter, f"tflite-runtime {importlib.metadata.version('tflite-runtime')}"
    except ImportError:
        raise MissingExtra(f"Running .tflite needs LiteRT, which is not installed: {install('litert')}.") from None


def _read_manifest(data: bytes, path: Path) -> FileManifest:
    """The METADATA entry, read without a TFLite library: a device's runtime has no call for it."""
    if data[4:8] != b"TFL3":
        raise BadInput(f"'{path}' is not a TFLite file (no TFL3 identifier). Export it again.")
    try:
        text = _metadata(data, METADATA_NAME)
    except Exception as error:  # a broken offset can raise anything: struct.error, IndexError, TypeError
        raise BadInput(f"'{path}' is damaged: its tables cannot be read. Export it again.") from error
    if text is None:
        raise no_file_manifest(path)
    return parse_file_manifest(text, path)


def _metadata(data: bytes, name: str) -> bytes | None:
    try:
        from flatbuffers import number_types
        from flatbuffers.table import Table
    except ImportError:
        raise MissingExtra(f"Reading .tflite needs flatbuffers: {install('litert')}.") from None

    def tables(table: Any, field: int) -> list[Any]:
        offset = table.Offset(field)
        if not offset:
            return []
        start = table.Vector(offset)
        return [Table(data, table.Indirect(start + 4 * i)) for i in range(table.VectorLen(offset))]

    root = Table(data, int.from_bytes(data[:4], "little"))
    buffers = tables(root, _MODEL_BUFFERS)
    for entry in tables(root, _MODEL_METADATA):
        field = entry.Offset(_METADATA_NAME)
        if field and entry.String(entry.Pos + field) == name.encode():
            index = entry.Get(number_types.Uint32Flags, entry.Pos + entry.Offset(_METADATA_BUFFER))
            buffer = buffers[index]
            field = buffer.Offset(_BUFFER_DATA)
            start = buffer.Vector(field)
            return data[start : start + buffer.VectorLen(field)]
    return None


register_runner(
    ".tflite",
    LiteRTRunner,
    side_by_side=True,
    can_crash=True,
    without_xnnpack=functools.partial(LiteRTRunner, xnnpack=False),
)
