"""The torch-free module, really built over the installed wheel: the same bits as the official API, and no torch."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_apps.errors import BadInput, BadManifest, EdgeError, MissingExtra
from edge_apps.runtime import executorch, executorch_native
from edge_apps.runtime.content import Content
from edge_apps.runtime.manifest import Bundle
from edge_apps.runtime.runner import open_runner

pytest.importorskip("executorch.runtime", reason="the executorch wheel is not installed")
if shutil.which("g++") is None:
    pytest.skip("NOT RUN: the native module needs g++ to be built", allow_module_level=True)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A user's cache in which the module was built."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        executorch_native.build()
        yield folder


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache without it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def program(bundle: Bundle, precision: str) -> Path:
    return bundle.root / f"mobilenet_v2-{precision}.pte"


def pictures(path: Path, count: int = 5) -> np.ndarray:
    runner = open_runner(Content.read(path))
    size = (count, runner.manifest.preprocess.height, runner.manifest.preprocess.width, 3)
    runner.close()
    return np.random.default_rng(0).integers(0, 256, size, np.uint8)


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_same_bits_as_the_official_api(
    demo_bundle: Bundle, precision: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = program(demo_bundle, precision)
    batch = pictures(path)
    ours = open_runner(Content.read(path), threads)
    assert isinstance(ours._program, executorch_native.NativeProgram)
    native = executorch_native.find()
    assert native is not None
    assert native.library.et_threads() == threads
    logits = ours.run(batch)
    assert ours.run(batch).tobytes() == logits.tobytes()
    ours.close()
    monkeypatch.setattr(executorch_native, "find", lambda: None)
    theirs = open_runner(Content.read(path), threads)
    assert isinstance(theirs._program, executorch._OfficialProgram)
    assert (theirs.manifest, theirs.runtime) == (ours.manifest, ours.runtime)
    assert theirs.run(batch).tobytes() == logits.tobytes()
    theirs.close()


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
from pathlib import Path
import numpy as np
from edge_apps.runtime.content import Content
from edge_apps.runtime.runner import open_runner
runner = open_runner(Content.read(Path(sys.argv[1])))
np.save(sys.argv[3], runner.run(np.load(sys.argv[2])))
"""


@pytest.mark.usefixtures("cache")
def test_no_torch_is_needed(demo_bundle: Bundle, tmp_path: Path) -> None:
    path = program(demo_bundle, "int8")
    batch = pictures(path)
    np.save(tmp_path / "in.npy", batch)
    command = [sys.executable, "-c", WITHOUT_TORCH, path, tmp_path / "in.npy", tmp_path / "out.npy"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    runner = open_runner(Content.read(path))
    assert np.load(tmp_path / "out.npy").tobytes() == runner.run(batch).tobytes()
    runner.close()


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("share", [0.0001, 0.01, 0.3, 0.9, 0.999])
def test_a_truncated_program_is_refused(demo_bundle: Bundle, share: float, tmp_path: Path) -> None:
    data = program(demo_bundle, "int8").read_bytes()
    path = tmp_path / "m.pte"
    path.write_bytes(data[: max(8, int(share * len(data)))])
    with pytest.raises(BadInput, match="Export it again"):
        open_runner(Content.read(path))


@pytest.mark.usefixtures("cache")
def test_a_program_without_a_manifest_is_refused(tmp_path: Path) -> None:
    import torch
    from executorch.exir import to_edge

    class Double(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + x

    made = to_edge(torch.export.export(Double(), (torch.zeros(1, 3),))).to_executorch()
    path = tmp_path / "m.pte"
    path.write_bytes(made.buffer)
    with pytest.raises(BadManifest, match="does not describe itself"):
        open_runner(Content.read(path))


@pytest.mark.usefixtures("cache")
def test_a_program_that_is_no_classifier_is_refused(tmp_path: Path) -> None:
    import torch
    from executorch.exir import to_edge

    class Double(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + x

    program = torch.export.export(Double(), (torch.zeros(1, 3),))
    made = to_edge(program, constant_methods={"edge_manifest": "{}"}).to_executorch()
    path = tmp_path / "m.pte"
    path.write_bytes(made.buffer)
    with pytest.raises(BadInput, match="cannot load .*: its input is not one picture of bytes"):
        open_runner(Content.read(path))


@pytest.mark.usefixtures("empty")
def test_without_it_and_without_torch_one_is_told_what_to_do(demo_bundle: Bundle) -> None:
    code = WITHOUT_TORCH.replace("runner = ", "from edge_apps.errors import MissingExtra\ntry: ", 1)
    code = code[: code.index("np.save")] + "except MissingExtra as error: print(error)\n"
    command = [sys.executable, "-c", code, program(demo_bundle, "int8")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert "run 'edge-camera setup executorch' once" in ended.stdout, ended.stderr
    assert executorch_native.find() is None


def test_another_wheel_is_another_module(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = executorch_native.module_path()
    assert built.is_file()
    assert built.is_relative_to(cache)
    monkeypatch.setattr(executorch_native, "version", lambda: "9.9.9")
    assert executorch_native.module_path() != built
    assert executorch_native.find() is None


def test_a_module_can_be_compiled_for_elsewhere(empty: Path, tmp_path: Path) -> None:
    there = tmp_path / "board" / "module.so"
    executorch_native.compile_for(executorch_native.installed(), there, "g++")
    assert executorch_native.Native(there).library.et_threads() >= 1
    assert executorch_native.find() is None  # nothing was put in this user's cache
    assert not (empty / "edge-pipeline").exists()


@pytest.mark.usefixtures("cache")
def test_what_others_may_write_is_not_run_and_is_named() -> None:
    """The module, and the folder in which they could put another one."""
    path = executorch_native.module_path()
    for place, mode, advice in (
        (path, 0o664, f"run '{executorch_native.SETUP}' again"),
        (path.parent, 0o775, f"chmod go-w {path.parent}, then run '{executorch_native.SETUP}' again"),
    ):
        before = place.stat().st_mode
        place.chmod(mode)
        try:
            assert executorch_native.find() is None
            refused = executorch_native.refusal()
        finally:
            place.chmod(before)
        assert refused is not None
        assert refused.reason == f"others can write to '{place}' (mode {mode:o})"
        assert refused.advice == advice
    assert executorch_native.find() is not None
    assert executorch_native.refusal() is None


@pytest.mark.usefixtures("cache")
def test_what_belongs_to_another_user_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    path = executorch_native.module_path()
    if path.stat().st_uid == 0:
        os.chown(path, 815, -1)
    try:
        refused = executorch_native.refusal()
        assert executorch_native.find() is None
    finally:
        if os.geteuid() == 0:
            os.chown(path, 0, -1)
    assert refused is not None
    assert "belongs to another user" in refused.reason
    assert "XDG_CACHE_HOME" in refused.advice


@pytest.mark.usefixtures("cache")
def test_a_refused_module_is_not_called_unbuilt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where torch is not installed: to build it once more is not the advice for a folder."""
    path = executorch_native.module_path()
    path.parent.chmod(0o775)
    monkeypatch.setitem(sys.modules, "torch", None)
    try:
        with pytest.raises(MissingExtra, match=r"is not loaded, because others can write to .*: chmod go-w .* again\."):
            executorch._official()
    finally:
        path.parent.chmod(0o755)
    with pytest.raises(MissingExtra, match="is not built yet: run 'edge-camera setup executorch' once"):
        executorch._official()


STUB = """#!/bin/sh
for last; do :; done
cp {module} "$last"
chmod 666 "$last"
"""


@pytest.fixture
def stub(cache: Path, tmp_path: Path) -> str:
    """A compiler that is quick: it hands out the module that was built before."""
    (built,) = (cache / "edge-pipeline").glob("*.so")
    path = tmp_path / "c++"
    path.write_text(STUB.format(module=built))
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o022, 0o077])
def test_the_module_is_its_owners_whatever_the_umask(
    stub: str, umask: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "new"))
    before = os.umask(umask)
    try:
        path = executorch_native.build(stub)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o644 & ~umask
    assert path.parent.stat().st_mode & 0o777 == 0o755 & ~umask
    assert executorch_native.refusal() is None
    assert executorch_native.find() is not None


def test_a_module_that_is_refused_is_replaced(stub: str, empty: Path) -> None:
    """One that was built under umask 002 before: building it again ends that."""
    path = executorch_native.build(stub)
    path.chmod(0o664)
    assert executorch_native.refusal() is not None
    executorch_native.build(stub)
    assert executorch_native.refusal() is None
    assert path.is_relative_to(empty)


def test_in_a_folder_of_many_nothing_is_built(stub: str, empty: Path) -> None:
    (empty / "edge-pipeline").mkdir()
    (empty / "edge-pipeline").chmod(0o775)
    with pytest.raises(BadInput, match="would not be loaded: others can write to .* chmod go-w"):
        executorch_native.build(stub)
    assert not list((empty / "edge-pipeline").iterdir())


@pytest.mark.usefixtures("empty")
def test_no_compiler() -> None:
    with pytest.raises(MissingExtra, match="'no-such-compiler' is not installed: sudo apt install g\\+\\+"):
        executorch_native.build("no-such-compiler")


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo 'x.cpp:1: fatal error: no space left' >&2; exit 1", "x.cpp:1: fatal error: no space left"),
        ('for last; do :; done; echo "no library" > "$last"', "does not load"),
    ],
)
def test_a_compiler_that_fails_leaves_nothing(empty: Path, script: str, words: str, tmp_path: Path) -> None:
    compiler = tmp_path / "c++"
    compiler.write_text(f"#!/bin/sh\n{script}\n")
    compiler.chmod(0o755)
    with pytest.raises(EdgeError, match=words) as caught:
        executorch_native.build(str(compiler))
    assert "\n" not in str(caught.value)
    assert not list((empty / "edge-pipeline").glob("*.so"))
    assert executorch_native.find() is None


def test_the_cache_is_a_folder_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert executorch_native.cache_folder() == tmp_path / ".cache" / "edge-pipeline"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # the XDG specification: to be ignored
    assert executorch_native.cache_folder() == tmp_path / ".cache" / "edge-pipeline"
    monkeypatch.setenv("XDG_CACHE_HOME", os.fspath(tmp_path / "c"))
    assert executorch_native.cache_folder() == tmp_path / "c" / "edge-pipeline"
