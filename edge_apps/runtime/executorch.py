"""Runs ``.pte`` files by the torch-free native module where it was built, else by the official Python API.

The official API needs torch; nothing is imported until a file is opened.
"""

from __future__ import annotations

import threading
import weakref
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_apps.chatter import hushed
from edge_apps.compat.executorch import thread_pool_setter
from edge_apps.errors import BadInput, EdgeError, MissingExtra, first_line
from edge_apps.runtime import executorch_native as native
from edge_apps.runtime.content import Content
from edge_apps.runtime.executorch_errors import why_not_loaded
from edge_apps.runtime.manifest import EMBEDDED_NAME, no_file_manifest, parse_file_manifest
from edge_apps.runtime.registry import check_batch, check_outputs, register_runner

_open: weakref.WeakSet[ExecuTorchRunner] = weakref.WeakSet()
_lock = threading.Lock()


class Program(Protocol):
    """A loaded program."""

    @property
    def text(self) -> str | bytes | None:
        """What its manifest method returns; None without one."""

    @property
    def outputs(self) -> int:
        """Logits a picture; 0 without a manifest."""

    def run(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits float32 ``[K]`` of contiguous uint8 ``[1, H, W, 3]``."""

    def close(self) -> None:
        """Free it."""


class Engine(Protocol):
    """A way to run programs."""

    def set_threads(self, threads: int) -> None:
        """Size the pool that all programs of the process share."""

    def load(self, data: bytes, method: str) -> Program:
        """Load a program and the text that its constant ``method`` returns."""


class ExecuTorchRunner:
    """One loaded program. Its threads come from a pool that all open programs of the process share."""

    def __init__(self, content: Content, threads: int) -> None:
        engine = native.find() or _official()
        self.runtime = f"executorch {native.version()}"
        self.path = path = content.path
        self.threads = threads
        data = content.data
        if data[4:6] != b"ET":
            raise BadInput(f"'{path}' is not an ExecuTorch program (no ET identifier). Export it again.")
        try:
            with hushed():
                _share_threads(threads, engine)
                self._program: Program | None = engine.load(data, EMBEDDED_NAME)
        except (RuntimeError, native.NativeError) as error:
            raise BadInput(f"{self.runtime} cannot load '{path}': {why_not_loaded(first_line(error), data)}") from error
        if self._program.text is None:
            raise no_file_manifest(path)
        self.manifest = parse_file_manifest(self._program.text, path)
        check_outputs(self._program.outputs, self.manifest, path)
        _open.add(self)

    def run(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits float32 ``[N, K]`` of uint8 ``[N, H, W, 3]``, one picture at a time."""
        check_batch(batch, self.manifest)
        assert self._program is not None
        logits = np.empty((len(batch), len(self.manifest.labels)), np.float32)
        try:
            for row in range(len(batch)):
                logits[row] = self._program.run(np.ascontiguousarray(batch[row : row + 1]))
        except (native.NativeError, RuntimeError) as error:  # the second is of the executorch package
            raise EdgeError(f"{self.runtime} cannot run '{self.path}': {error}.") from error
        return logits

    def close(self) -> None:
        """Free the program."""
        if self._program is not None:
            self._program.close()
        self._program = None
        _open.discard(self)


def _share_threads(threads: int, engine: Engine) -> None:
    """Size the process's thread pool. Doing so frees the pool that open programs still use, so never under them."""
    with _lock:
        in_use = {runner.threads for runner in _open}
        if in_use - {threads}:
            raise BadInput(
                f"threads is {threads}, but another open .pte file uses {in_use.pop()}: all of one process share "
                "them. Use the same number, or close that file first."
            )
        if not in_use:
            engine.set_threads(threads)


class _Official:
    """``executorch.runtime``."""

    def __init__(self, torch: Any, runtime: Any, set_threads: Any) -> None:
        self._torch, self._runtime, self.set_threads = torch, runtime, set_threads

    def load(self, data: bytes, method: str) -> Program:
        from executorch.runtime import Verification

        # Verified: offsets that point out of the file are an error here, not a crash later.
        program = self._runtime.load_program(data, verification=Verification.InternalConsistency)
        return _OfficialProgram(self._torch, program, method)


class _OfficialProgram:
    def __init__(self, torch: Any, program: Any, method: str) -> None:
        self._torch = torch
        self._program: Any = program  # owns the bytes that the method reads
        self.text: str | None = None
        self.outputs = 0
        if method in program.method_names:
            self.text = program.load_method(method).execute([])[0]
            self._forward: Any = program.load_method("forward")
            self.outputs = int(self._forward.metadata.output_tensor_meta(0).sizes()[-1])

    def run(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        row: NDArray[np.float32] = self._forward.execute([self._torch.from_numpy(picture)])[0][0].numpy()
        return row

    def close(self) -> None:
        self._forward = self._program = None


def _official() -> Engine:
    try:
        with hushed():  # torch's and the runtime's own start-up messages
            import torch
            from executorch.runtime import Runtime

            set_threads = thread_pool_setter()
    except ImportError as error:
        native.module_path()  # where the wheel itself is missing, it says so
        refused = native.refusal()
        why = f"is not loaded, because {refused}." if refused else f"is not built yet: run '{native.SETUP}' once."
        raise MissingExtra(
            f"Running .pte needs its native module, which {why} "
            f"(The official Python API would need '{error.name}', which is not installed.)"
        ) from None
    return _Official(torch, Runtime.get(), set_threads)


register_runner(".pte", ExecuTorchRunner, can_crash=True)
