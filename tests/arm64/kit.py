"""What an emulated board is made of. Each part is made once, then kept in a folder; a second run finds it there.

::

    root        the user space of a Raspberry Pi: Debian bookworm for arm64, unpacked (79 MB)
    qemu        QEMU 10 in user mode, one static program (bookworm's own QEMU 7.2 computes wrong int8)
    sites       the real wheels for it: what the extra [litert] needs, what [tflite] needs, and executorch alone
    compiler    g++ of that same Debian release for arm64; what a newer one builds would not load there
    native      edge_apps/runtime/executorch_native.cpp, compiled by it for the executorch wheel

The folder is ``$EDGE_ARM64_CACHE``, else one of this user below the system's folder for temporary files (750 MB).
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import os
import platform
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from debian_packages import Release, UnavailableError, unpack, unpack_file
from packaging.requirements import Requirement

from edge_apps.runtime.executorch_native import Wheel, compile_for

REPOSITORY = Path(__file__).resolve().parents[2]

DEBIAN = "bookworm"
PYTHON = "3.11"
GLIBC = 36
"""Of that release: wheels for manylinux 2.36 and older run there."""

ROOT_PACKAGES = ("base-files", "python3", "python3-minimal", "libstdc++6", "libgomp1")
QEMU_DEBIAN, QEMU_PACKAGE, QEMU_PROGRAM = "trixie", "qemu-user", "usr/bin/qemu-aarch64"
COMPILER_PACKAGE, COMPILER_PROGRAM = "g++-12-aarch64-linux-gnu", "usr/bin/aarch64-linux-gnu-g++-12"

SAME_AS_HERE = {"litert": ("ai-edge-litert", "opencv-python-headless"), "tflite": ()}
"""Packages of a site in the very version of this environment, with whose results the board's are compared."""


class Kit:
    """The parts, each made when it is first asked for. Any may raise ``UnavailableError``."""

    def __init__(self, folder: Path) -> None:
        if platform.machine() != "x86_64":
            raise UnavailableError(f"this machine is {platform.machine()}; the comparison is of Arm with x86-64.")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = folder.stat()
        if about.st_uid != os.getuid() or stat.S_IMODE(about.st_mode) & 0o022:
            raise RuntimeError(f"'{folder}' can be written by others, and programs in it are run: remove it.")
        self.folder = folder
        self.seconds: dict[str, float] = {}
        """How long each part took that had to be made."""

    def root(self) -> Path:
        """The root folder of the board's Debian."""

        def make(out: Path, work: Path) -> None:
            for package in Release(DEBIAN, "arm64", work).download(ROOT_PACKAGES):
                unpack(package, out)

        return self._part("root", (DEBIAN, *ROOT_PACKAGES), make)

    def qemu(self) -> Path:
        """The program that runs arm64 programs."""

        def make(out: Path, work: Path) -> None:
            unpack_file(Release(QEMU_DEBIAN, "amd64", work).download_alone(QEMU_PACKAGE), QEMU_PROGRAM, out)

        return self._part("qemu", (QEMU_DEBIAN, QEMU_PACKAGE), make) / QEMU_PROGRAM

    def site(self, extra: str) -> Path:
        """The wheels of ``pip install '.[litert]'`` (or ``[tflite]``) on the board; not this project itself."""
        wanted = requirements(extra)
        pins = [f"{name}=={importlib.metadata.version(name)}" for name in SAME_AS_HERE[extra]]

        def make(out: Path, work: Path) -> None:
            constraints = work / "constraints.txt"
            constraints.write_text("\n".join(pins))
            _pip_install(out, "--constraint", str(constraints), *wanted)

        return self._part(f"site-{extra}", (PYTHON, *wanted, *pins), make)

    def executorch(self) -> Path:
        """What ``pip install --no-deps executorch`` puts there."""
        pin = f"executorch=={importlib.metadata.version('executorch')}"
        return self._part("site-executorch", (PYTHON, pin), lambda out, _: _pip_install(out, "--no-deps", pin))

    def native(self) -> Path:
        """The ``$XDG_CACHE_HOME`` in which ``edge-camera setup executorch`` would have left its module."""
        wheel = Wheel(self.executorch() / "executorch", importlib.metadata.version("executorch"))
        name = wheel.module_path().name

        def make(out: Path, _: Path) -> None:
            compile_for(wheel, out / "edge-pipeline" / name, str(self._compiler()))

        return self._part("native", (name,), make)

    def _compiler(self) -> Path:
        def make(out: Path, work: Path) -> None:
            for package in Release(DEBIAN, "amd64", work).download([COMPILER_PACKAGE]):
                if not package.name.startswith("libc6_"):  # it must be the one that this machine's programs start with
                    unpack(package, out)

        folder = self._part("compiler", (DEBIAN, COMPILER_PACKAGE), make)
        script = folder / "g++"
        libraries = ":".join(str(folder / each / "x86_64-linux-gnu") for each in ("lib", "usr/lib"))
        script.write_text(
            f'#!/bin/sh\nexport LD_LIBRARY_PATH={libraries}\nexec {folder}/{COMPILER_PROGRAM} --sysroot={folder} "$@"\n'
        )
        script.chmod(0o755)
        return script

    def _part(self, name: str, recipe: tuple[str, ...], make: Callable[[Path, Path], None]) -> Path:
        """The folder of a part: whole or not there, whatever ends a test run; another recipe is another part."""
        digest = hashlib.sha256("\0".join(recipe).encode()).hexdigest()[:12]
        part = self.folder / f"{name}-{digest}"
        with self._alone(name):
            if part.is_dir():
                return part
            start = time.monotonic()
            with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=self.folder) as scratch:
                out, work = Path(scratch) / "out", Path(scratch) / "work"
                out.mkdir()
                work.mkdir()
                make(out, work)
                out.rename(part)
            self.seconds[name] = time.monotonic() - start
        return part

    @contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        """One process at a time makes a part; the others wait for it."""
        with (self.folder / f".{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def default_folder() -> Path:
    """``$EDGE_ARM64_CACHE``, else one of this user below the system's temporary folder."""
    chosen = os.environ.get("EDGE_ARM64_CACHE")
    return Path(chosen).absolute() if chosen else Path(tempfile.gettempdir()) / f"edge-pipeline-arm64-{os.getuid()}"


def requirements(extra: str) -> list[str]:
    """What pyproject.toml asks for on the board with this extra."""
    import tomllib

    with (REPOSITORY / "pyproject.toml").open("rb") as stream:
        project = tomllib.load(stream)["project"]
    board = {"python_version": PYTHON, "python_full_version": f"{PYTHON}.2", "platform_machine": "aarch64"}
    parsed = map(Requirement, [*project["dependencies"], *project["optional-dependencies"][extra]])
    return [f"{each.name}{each.specifier}" for each in parsed if each.marker is None or each.marker.evaluate({**board})]


def _pip_install(folder: Path, *arguments: str) -> None:
    platforms = [f"manylinux_2_{minor}_aarch64" for minor in range(GLIBC, 16, -1)] + ["manylinux2014_aarch64"]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--disable-pip-version-check"]
    command += ["--only-binary=:all:", "--implementation", "cp", "--python-version", PYTHON, "--target", str(folder)]
    command += [word for each in platforms for word in ("--platform", each)]
    ended = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    if ended.returncode:
        raise RuntimeError(f"pip install {' '.join(arguments)} for arm64: {ended.stderr.strip()}")
