"""ExecuTorch without torch: ``executorch_native.cpp`` over the libraries of the installed wheel, built once and kept.

The official Python API imports torch, and the torch that PyPI has for arm64 does not run on a Raspberry Pi. The wheel's
own C++ libraries do. ``build`` compiles one file against them; what it made lies in the user's cache, one for each
wheel, and is opened by ctypes.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_apps.errors import EdgeError, MissingExtra, first_line
from edge_apps.files import write_whole

SOURCE = Path(__file__).with_suffix(".cpp")

LIBRARIES = ("", "_backend_xnnpack", "_kernels_optimized", "_kernels_quantized", "_threadpool")
"""Of the wheel, after ``libexecutorch``. All but the first and last are linked for what they register when loaded."""

FLAGS = (
    "-std=c++17",
    "-O2",
    "-fPIC",
    "-shared",
    "-DC10_USING_CUSTOM_GENERATED_MACROS",
    "-DET_EVENT_TRACER_ENABLED",  # the wheel was built with it: without, classes would have another layout
)

TIMEOUT = 600.0
"""Seconds for the compiler: 4 on a desktop, under two minutes on a Raspberry Pi 3."""


@dataclass(frozen=True)
class Wheel:
    """An executorch wheel, unpacked: this machine's, or for cross-compiling another's."""

    folder: Path
    version: str

    def module_path(self) -> Path:
        """Where its module is, or would be: another wheel or another source has another name."""
        recipe = "\0".join([str(self.folder), self.version, *FLAGS]).encode() + SOURCE.read_bytes()
        return cache_folder() / f"executorch-{self.version}-{hashlib.sha256(recipe).hexdigest()[:12]}.so"


class NativeError(Exception):
    """What the module answered, in words."""


class Native:
    """The opened module."""

    def __init__(self, path: Path) -> None:
        library = ctypes.CDLL(str(path))
        signatures: dict[str, tuple[Any, list[Any]]] = {
            "et_open": (
                ctypes.c_int,
                [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.POINTER(ctypes.c_void_p)],
            ),
            "et_manifest": (ctypes.c_void_p, [ctypes.c_void_p, ctypes.POINTER(ctypes.c_size_t)]),
            "et_input_bytes": (ctypes.c_size_t, [ctypes.c_void_p]),
            "et_outputs": (ctypes.c_size_t, [ctypes.c_void_p]),
            "et_run": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]),
            "et_close": (None, [ctypes.c_void_p]),
            "et_set_threads": (ctypes.c_int, [ctypes.c_uint32]),
            "et_threads": (ctypes.c_size_t, []),
            "et_why": (ctypes.c_char_p, [ctypes.c_int]),
        }
        for name, (answer, arguments) in signatures.items():
            function = getattr(library, name)
            function.restype, function.argtypes = answer, arguments
        self.library = library

    def check(self, error: int) -> None:
        """Raise ``NativeError`` unless ``error`` is 0."""
        if error:
            raise NativeError(self.library.et_why(error).decode())

    def set_threads(self, threads: int) -> None:
        """Size the pool that all programs of the process share."""
        self.check(self.library.et_set_threads(threads))

    def load(self, data: bytes, method: str) -> NativeProgram:
        """Load a program and the text of its constant method."""
        return NativeProgram(self, data, method)


class NativeProgram:
    """A loaded program: ``text`` of its constant method, None without; ``outputs`` logits a picture."""

    def __init__(self, native: Native, data: bytes, method: str) -> None:
        self._native = native
        self._handle = ctypes.c_void_p()
        native.check(native.library.et_open(data, len(data), method.encode(), ctypes.byref(self._handle)))
        size = ctypes.c_size_t()
        address = native.library.et_manifest(self._handle, ctypes.byref(size))
        self.text = None if address is None else ctypes.string_at(address, size.value)
        self.outputs = int(native.library.et_outputs(self._handle))
        self._bytes = int(native.library.et_input_bytes(self._handle))

    def run(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits float32 ``[K]`` of contiguous uint8 ``[1, H, W, 3]``."""
        if picture.nbytes != self._bytes:
            raise NativeError(f"it takes {self._bytes} bytes, not the {picture.nbytes} of its manifest")
        logits = np.empty(self.outputs, np.float32)
        self._native.check(self._native.library.et_run(self._handle, picture.ctypes.data, logits.ctypes.data))
        return logits

    def close(self) -> None:
        """Free the program."""
        handle, self._handle = self._handle, ctypes.c_void_p()
        if handle:
            self._native.library.et_close(handle)

    def __del__(self) -> None:
        self.close()


def find() -> Native | None:
    """The module of the installed wheel, if it was built; None where it was not, or can no longer be loaded."""
    try:
        path = module_path()
    except MissingExtra:
        return None
    return _opened(path) if _is_ours(path) else None


def build(compiler: str = "g++") -> Path:
    """Compile the module for the installed wheel into the user's cache, and load it to see that it works.

    Raises:
        MissingExtra: no executorch wheel, or no compiler. EdgeError: the compiler gave up, or what it made does not
            load. BadInput: the cache cannot be written.
    """
    wheel = installed()
    path = wheel.module_path()
    compile_for(wheel, path, compiler)
    try:
        Native(path)
    except OSError as error:
        path.unlink()
        raise EdgeError(f"What '{compiler}' built does not load: {first_line(error)}.") from error
    _opened.cache_clear()
    return path


def compile_for(wheel: Wheel, path: Path, compiler: str) -> None:
    """Compile the module for a wheel, which need not be of this kind of machine, to ``path``; it is not loaded.

    It finds the wheel's libraries where ``wheel.folder`` is now. Raises what ``build`` raises.
    """
    program = shutil.which(compiler)
    if program is None:
        raise MissingExtra(
            f"Building needs a C++ compiler, and '{compiler}' is not installed: sudo apt install g++. "
            "With torch installed, .pte files also run without this module."
        )
    with tempfile.TemporaryDirectory(prefix="edge-executorch-") as folder:
        made = Path(folder) / path.name
        command = [program, *FLAGS, str(SOURCE), *_include(wheel.folder), *_link(wheel.folder), "-o", str(made)]
        try:
            ended = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT)
        except subprocess.TimeoutExpired as error:
            raise EdgeError(f"'{compiler}' did not end within {TIMEOUT:.0f} s.") from error
        if ended.returncode != 0:
            faults = [line for line in ended.stderr.splitlines() if "error" in line.lower()] or [ended.stderr.strip()]
            raise EdgeError(f"'{compiler}' could not build the module for executorch {wheel.version}: {faults[0]}")
        write_whole(path, made.read_bytes())


def module_path() -> Path:
    """Where the module of the installed wheel is, or would be."""
    return installed().module_path()


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/edge-pipeline``, by default below ``~/.cache``."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(root) if Path(root).is_absolute() else Path.home() / ".cache") / "edge-pipeline"


def version() -> str:
    """Of the installed wheel."""
    return importlib.metadata.version("executorch")


def installed() -> Wheel:
    """This machine's wheel; raises ``MissingExtra`` where there is none."""
    found = importlib.util.find_spec("executorch")
    folders = list(found.submodule_search_locations or ()) if found else []
    for folder in map(Path, folders):
        if (folder / "lib" / "libexecutorch.so").is_file() and (folder / "include").is_dir():
            return Wheel(folder, version())
    raise MissingExtra(
        "Running .pte files needs the executorch wheel (1.5 or newer), which is not installed: "
        "pip install --no-deps executorch."
    )


def _include(wheel: Path) -> list[str]:
    headers = wheel / "include"
    vendored = headers / "executorch" / "runtime" / "core" / "portable_type" / "c10"
    return [option for folder in (headers, vendored) for option in ("-isystem", str(folder))]


def _link(wheel: Path) -> list[str]:
    folder = wheel / "lib"
    names = [f"-lexecutorch{name}" for name in LIBRARIES]
    return ["-L", str(folder), f"-Wl,-rpath,{folder}", "-Wl,--no-as-needed", *names]


def _is_ours(path: Path) -> bool:
    """Whether nobody else could have put it there: code from it runs in this process."""
    try:
        about = path.stat()
    except OSError:
        return False
    return about.st_uid in (os.getuid(), 0) and not about.st_mode & 0o022


@cache
def _opened(path: Path) -> Native | None:
    try:
        return Native(path)
    except OSError:  # a system library that it needs is gone
        return None
