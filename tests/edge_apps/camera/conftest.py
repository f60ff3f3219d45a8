"""A fake runtime, a bundle of its files, and pictures whose label is known."""

import contextlib
import hashlib
import importlib.util
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from edge_apps.camera.commands.main import main
from edge_apps.images import write_png
from edge_apps.runtime import registry

SCRIPT = Path(__file__).with_name("fake_camera.py")


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Ctrl-C and SIGHUP work in these tests, and in the programs they start, also in the background or by nohup."""
    defaults = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in defaults.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """``fake_camera.py`` as a module: ``FakeRunner``, ``write_fake``. Its runtime is known to this test alone."""
    registry.known_suffixes()  # the real runtimes register once, on import: not into the copy
    monkeypatch.setattr(registry, "_factories", dict(registry._factories))
    spec = importlib.util.spec_from_file_location("fake_camera", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def live_camera() -> ModuleType:
    """``live_camera.py`` as a module: what the live page shows, without a network."""
    spec = importlib.util.spec_from_file_location("live_camera", Path(__file__).with_name("live_camera.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def shared_cases() -> Path:
    """Inputs that users brought, which may not live in this repository."""
    cases = Path(__file__).resolve().parents[4] / "shared" / "cases"
    if not cases.is_dir():
        pytest.skip("the shared cases are not on this machine: this test did NOT run")
    return cases


@pytest.fixture
def model(fake: ModuleType, tmp_path: Path) -> Path:
    """One model file that runs."""
    return fake.write_fake(tmp_path / "colours-int8.fake")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """``a/red.png``, ``b/green.png``, ``c/blue.png``."""
    for folder, colour, rgb in [("a", "red", (200, 10, 10)), ("b", "green", (10, 180, 10)), ("c", "blue", (9, 9, 240))]:
        (tmp_path / "pictures" / folder).mkdir(parents=True)
        write_png(tmp_path / "pictures" / folder / f"{colour}.png", np.full((20, 30, 3), rgb, np.uint8))
    return tmp_path / "pictures"


@pytest.fixture
def make_bundle(fake: ModuleType, tmp_path: Path) -> Callable[..., Path]:
    """``make_bundle([{target, precision, …behaviour}, …])`` writes a bundle whose hashes are right."""

    def make(files: list[dict]) -> Path:
        root = tmp_path / "bundle"
        entries = []
        for number, behaviour in enumerate(files):
            target, precision = behaviour.pop("target"), behaviour.pop("precision")
            path = root / f"{number}-{target}-{precision}.fake"
            fake.write_fake(path, manifest={"target": target, "precision": precision}, **behaviour)
            data = path.read_bytes()
            entries.append(
                {
                    "path": path.name,
                    "role": "model",
                    "sha256": hashlib.sha256(data).hexdigest(),
                    "bytes": len(data),
                    "target": target,
                    "precision": precision,
                }
            )
        kept = ("format", "model", "options", "labels", "preprocess", "provenance")
        manifest = {**{key: fake.MANIFEST[key] for key in kept}, "created": "2026-01-01T00:00:00Z", "files": entries}
        (root / "manifest.json").write_text(json.dumps(manifest))
        return root

    return make


@dataclass(frozen=True)
class SmallDisk:
    """A disk of its own, 2 MB, at ``path``."""

    path: Path

    def fill(self) -> Path:
        """Not a byte is left; the file that takes it all."""
        ballast = self.path / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as stream:
            while True:
                stream.write(bytes(4096))
        return ballast

    def remount(self, how: str) -> None:
        """``ro`` or ``rw``."""
        _mount("-o", f"remount,{how}", self.path)


def _mount(*arguments: object) -> None:
    result = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True, check=False)
    if result.returncode:
        pytest.skip(f"no mounting here ({result.stderr.strip()}): this test did NOT run")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """Where files can meet a full or a read-only disk."""
    if os.geteuid():
        pytest.skip("only root can mount a small disk: this test did NOT run")
    place = tmp_path / "disk"
    place.mkdir()
    _mount("-t", "tmpfs", "-o", "size=2m", "tmpfs", place)
    yield SmallDisk(place)
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@dataclass(frozen=True)
class Ended:
    """What a program left: its exit status and what it said."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def edge_camera(fake: ModuleType, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:  # noqa: ARG001
    """Run the program in this process (one of its own costs half a second), with the fake runtime in it."""

    def run(*arguments: object) -> Ended:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main.main(args=[str(argument) for argument in arguments], prog_name="edge-camera")
        said = capsys.readouterr()
        return Ended(int(ended.value.code or 0), said.out, said.err)

    return run


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Six frames of one grey each: 0, 40, … 200."""
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (64, 48))
    assert writer.isOpened()
    for grey in range(0, 240, 40):
        writer.write(np.full((48, 64, 3), (0, grey // 2, grey), np.uint8))  # BGR: mostly red
    writer.release()
    return path
