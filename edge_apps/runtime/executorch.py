"""Runs ``.pte`` files by the official Python API, which needs torch; nothing is imported until a file is opened."""

from __future__ import annotations

import importlib.metadata
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_apps.chatter import hushed
from edge_apps.errors import BadInput, MissingExtra, first_line, install
from edge_apps.runtime.manifest import EMBEDDED_NAME, no_file_manifest, parse_file_manifest
from edge_apps.runtime.runner import check_batch, check_outputs, register_runner

_open: weakref.WeakSet[ExecuTorchRunner] = weakref.WeakSet()
_lock = threading.Lock()


class ExecuTorchRunner:
    """One loaded program. Its threads come from a pool that all open programs of the process share."""

    def __init__(self, path: Path, threads: int) -> None:
        with hushed():  # torch's and the runtime's own start-up messages
            self._torch, runtime, set_threads = _library()
        self.runtime = f"executorch {importlib.metadata.version('executorch')}"
        self.path = path
        self.threads = threads
        data = path.read_bytes()
        if data[4:6] != b"ET":
            raise BadInput(f"'{path}' is not an ExecuTorch program (no ET identifier). Export it again.")
        try:
            with hushed():
                _share_threads(threads, set_threads)
                program = _load(runtime, data)
            if EMBEDDED_NAME not in program.method_names:
                raise no_file_manifest(path)
            self.manifest = parse_file_manifest(program.load_method(EMBEDDED_NAME).execute([])[0], path)
            self._method: Any = program.load_method("forward")
        except RuntimeError as error:
            raise BadInput(f"{self.runtime} cannot load '{path}': {first_line(error)}. Export it again.") from error
        check_outputs(self._method.metadata.output_tensor_meta(0).sizes()[-1], self.manifest, path)
        self._program: Any = program  # owns the bytes that the method reads
        _open.add(self)

    def run(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits float32 ``[N, K]`` of uint8 ``[N, H, W, 3]``, one picture at a time."""
        check_batch(batch, self.manifest)
        logits = np.empty((len(batch), len(self.manifest.labels)), np.float32)
        for row in range(len(batch)):
            picture = self._torch.from_numpy(np.ascontiguousarray(batch[row : row + 1]))
            logits[row] = self._method.execute([picture])[0][0].numpy()
        return logits

    def close(self) -> None:
        """Free the program."""
        self._method = None
        self._program = None
        _open.discard(self)


def _share_threads(threads: int, set_threads: Any) -> None:
    """Size the process's thread pool. Doing so frees the pool that open programs still use, so never under them."""
    with _lock:
        in_use = {runner.threads for runner in _open}
        if in_use - {threads}:
            raise BadInput(
                f"threads is {threads}, but another open .pte file uses {in_use.pop()}: all of one process share "
                "them. Use the same number, or close that file first."
            )
        if not in_use:
            set_threads(threads)


def _load(runtime: Any, data: bytes) -> Any:
    from executorch.runtime import Verification

    # Verified: offsets that point out of the file are an error here, not a crash later.
    return runtime.load_program(data, verification=Verification.InternalConsistency)


def _library() -> tuple[Any, Any, Any]:
    try:
        import torch
        from executorch.extension.pybindings.portable_lib import _unsafe_reset_threadpool
        from executorch.runtime import Runtime
    except ImportError as error:
        raise MissingExtra(
            f"Running .pte needs executorch and torch, and '{error.name}' is not installed: {install('export')}."
        ) from None
    return torch, Runtime.get(), _unsafe_reset_threadpool


register_runner(".pte", ExecuTorchRunner)
