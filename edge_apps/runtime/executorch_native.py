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
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_apps.errors import BadInput, EdgeError, MissingExtra, first_line
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

SETUP = "edge-camera setup executorch"
"""The command that builds the module."""

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


@dataclass(frozen=True)
class Refusal:
    """Why a module that was built is not loaded, as a clause, and what to do about it, as an imperative."""

    reason: str
    advice: str

    def __str__(self) -> str:
        return f"{self.reason}: {self.advice}"


def find() -> Native | None:
    """The module of the installed wheel, if it was built and is not refused; None where it can no longer be loaded."""
    try:
        path = module_path()
    except MissingExtra:
        return None
    return _opened(path) if path.is_file() and refusal() is None else None


def refusal() -> Refusal | None:
    """Say why the module of the installed wheel is not loaded although it is there: code from it runs in this process.

    It, and the folder that it lies in, must belong to this user or root, and nobody else may write to them. None where
    that is so, or no module is there.
    """
    try:
        path = module_path()
        about = path.stat()
        return _folder_refusal(path.parent) or _refusal(path, about, f"run '{SETUP}' again")
    except (MissingExtra, OSError):
        return None  # there is no wheel, or it was not built for this one


def build(compiler: str = "g++") -> Path:
    """Compile the module for the installed wheel into the user's cache, and load it to see that it works.

    Raises:
        MissingExtra: no executorch wheel, or no compiler. EdgeError: the compiler gave up, or what it made does not
            load. BadInput: the cache cannot be written, or others can write to it.
    """
    wheel = installed()
    path = wheel.module_path()
    _make_folder(path.parent)
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
        write_whole(path, made.read_bytes(), 0o644)  # a module that others can write to is not loaded


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


def _make_folder(folder: Path) -> None:
    """Make the folder of the module, in which nobody else may write, whatever the umask."""
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        refused = _folder_refusal(folder)
    except OSError as error:
        raise BadInput(f"Cannot write '{folder}': {error.strerror}. Choose another folder: XDG_CACHE_HOME.") from error
    if refused:
        raise BadInput(f"The module is not built there, because it would not be loaded: {refused}.")


def _folder_refusal(folder: Path) -> Refusal | None:
    return _refusal(folder, folder.stat(), f"chmod go-w {shlex.quote(str(folder))}, then run '{SETUP}' again")


def _refusal(path: Path, about: os.stat_result, advice: str) -> Refusal | None:
    if about.st_uid not in (os.getuid(), 0):
        reason = f"'{path}' belongs to another user (uid {about.st_uid}), not to this one ({os.getuid()}) or root"
        return Refusal(reason, f"name a folder of your own in XDG_CACHE_HOME, then run '{SETUP}'")
    if about.st_mode & 0o022:
        return Refusal(f"others can write to '{path}' (mode {about.st_mode & 0o777:o})", advice)
    return None


@cache
def _opened(path: Path) -> Native | None:
    try:
        return Native(path)
    except OSError:  # a system library that it needs is gone
        return None
