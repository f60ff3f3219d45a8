"""Runs ``.mlpackage`` files by Core ML, which exists on macOS only; elsewhere such a file is "not run"."""

from __future__ import annotations

import importlib.metadata
import sys
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_apps.errors import BadInput, MissingExtra, NotRunHere, first_line, install
from edge_apps.runtime.content import Content
from edge_apps.runtime.manifest import METADATA_NAME, OUTPUTS, no_file_manifest, parse_file_manifest
from edge_apps.runtime.registry import check_batch, check_outputs, register_runner


class CoreMLRunner:
    """One loaded model. Core ML schedules its own threads; ``threads`` is what was asked for, not a promise."""

    def __init__(self, content: Content, threads: int) -> None:
        reason = _elsewhere()
        if reason:
            raise NotRunHere(f"'{content.path.name}' is not run: {reason}.")
        coremltools, image = _library()
        self._image: Any = image
        self.runtime = f"coremltools {importlib.metadata.version('coremltools')}"
        self.path = path = content.path
        self.threads = threads
        self._copy = ExitStack()
        try:
            copy = self._copy.enter_context(content.on_disk())
            self._model: Any = coremltools.models.MLModel(str(copy))
        except Exception as error:  # coremltools raises its own, RuntimeError and protobuf errors alike
            raise BadInput(f"Core ML cannot load '{path}': {first_line(error)}. Export it again.") from error
        text = self._model.user_defined_metadata.get(METADATA_NAME)
        if text is None:
            raise no_file_manifest(path)
        self.manifest = parse_file_manifest(text, path)

    def run(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits float32 ``[N, K]`` of uint8 ``[N, H, W, 3]``, one picture at a time."""
        check_batch(batch, self.manifest)
        logits = np.empty((len(batch), len(self.manifest.labels)), np.float32)
        for row, picture in enumerate(batch):
            outputs = self._model.predict({"image": self._image.fromarray(picture)})
            answered = np.asarray(outputs[OUTPUTS[self.manifest.output]], np.float32).reshape(-1)
            check_outputs(answered.size, self.manifest, self.path)
            logits[row] = answered
        return logits

    def close(self) -> None:
        """Free the model."""
        self._model = None
        self._copy.close()


def _system() -> str:
    """``sys.platform``, behind a call: a type checker would take the rest of the class for unreachable."""
    return sys.platform


def _elsewhere() -> str | None:
    return None if _system() == "darwin" else "Core ML exists on macOS only"


def _library() -> tuple[Any, Any]:
    try:
        import coremltools
        from PIL import Image
    except ImportError as error:
        raise MissingExtra(
            f"Running .mlpackage needs coremltools and Pillow, and '{error.name}' is not installed: "
            f"{install('coreml')}."
        ) from None
    return coremltools, Image


register_runner(".mlpackage", CoreMLRunner, can_crash=True, elsewhere=_elsewhere)
