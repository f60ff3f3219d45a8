"""A bundle appears whole or not at all, and nothing that is no bundle is ever replaced."""

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_apps.runtime.manifest import FORMAT, MANIFEST, Bundle, FileManifest, Provenance, load_bundle
from edge_apps.runtime.preprocess import Preprocess
from pipeline.bundles import write as writing
from pipeline.bundles.write import check_free, describe, staged, write_manifest
from pipeline.errors import BadInput

ABOUT = FileManifest(
    format=FORMAT,
    model="small",
    options={},
    target="",
    precision="fp32",
    labels=("a", "b"),
    preprocess=Preprocess(height=8, width=8),
    provenance=Provenance(checkpoint_sha256="0" * 64),
)
NO_PROCESS = 2**22 + 1  # above what Linux gives out


def fill(folder: Path, content: str) -> None:
    """The files of a bundle, one of them in a package."""
    (folder / "m.mlpackage" / "Data").mkdir(parents=True)
    (folder / "m.mlpackage" / "Data" / "weights").write_text(content)
    (folder / "m.tflite").write_text(content)
    kinds = {"m.tflite": "tflite", "m.mlpackage": "coreml"}
    entries = [describe(folder, folder / name, "model", target=kinds[name], precision="fp32") for name in kinds]
    write_manifest(folder, ABOUT, entries)


def write(out: Path, content: str = "new") -> None:
    with staged(out) as folder:
        fill(folder, content)


def content(out: Path) -> str:
    """Of a bundle whose every file is what its manifest says."""
    bundle: Bundle = load_bundle(out)
    for file in bundle.manifest.files:
        bundle.read(file)
    return (out / "m.tflite").read_text()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "bundle"


@pytest.fixture
def old(out: Path) -> Path:
    """A bundle that is there already."""
    write(out, "old")
    return out


@pytest.fixture
def no_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS, or on a file system that cannot exchange."""
    monkeypatch.setattr(writing, "_exchange", lambda _one, _other: False)


# --- before work starts ---------------------------------------------------------------------------------------------


def test_a_free_place_stays_free(tmp_path: Path) -> None:
    for out in (tmp_path / "bundle", tmp_path / "a" / "b" / "bundle"):
        check_free(out, force=False)
        check_free(out, force=True)
    assert names(tmp_path) == []


def test_an_empty_folder_is_free(out: Path) -> None:
    out.mkdir()
    check_free(out, force=False)
    write(out)
    assert content(out) == "new"


def test_a_bundle_needs_force(old: Path) -> None:
    with pytest.raises(BadInput, match=f"Bundle '{old}' exists. Pass `force` to replace it, or choose another `out`"):
        check_free(old, force=False)
    check_free(old, force=True)
    assert content(old) == "old"


def put_file(out: Path) -> None:
    out.write_text("precious")


def put_folder(out: Path) -> None:
    out.mkdir()
    (out / "thesis.txt").write_text("precious")


def put_other_manifest(out: Path) -> None:
    """A web page's folder has a manifest.json too."""
    out.mkdir()
    (out / MANIFEST).write_text(json.dumps({"name": "My page", "icons": []}))


@pytest.mark.parametrize("put", [put_file, put_folder, put_other_manifest])
@pytest.mark.parametrize("force", [False, True])
def test_what_is_no_bundle_is_not_replaced(out: Path, put: Callable[[Path], None], force: bool) -> None:
    put(out)
    before = out.read_text() if out.is_file() else {path.name: path.read_text() for path in out.iterdir()}
    with pytest.raises(BadInput, match=f"'{out}' exists and is not a bundle: it is not replaced"):
        check_free(out, force)
    with pytest.raises(BadInput, match="Cannot put the bundle at"):
        write(out)
    after = out.read_text() if out.is_file() else {path.name: path.read_text() for path in out.iterdir()}
    assert after == before
    assert names(out.parent) == ["bundle"]


@pytest.mark.parametrize("where", ["file/bundle", "file/a/bundle"])
def test_a_place_that_cannot_be_written(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match=f"Cannot write '.*{where}': Not a directory. Choose an `out` that you can"):
        check_free(tmp_path / where, force=False)
    assert names(tmp_path) == ["file"]


def test_a_system_that_does_not_allow_it() -> None:
    with pytest.raises(BadInput, match=r"Cannot write '/proc/bundle': .*Choose an `out`"):
        check_free(Path("/proc/bundle"), force=False)


@pytest.mark.parametrize("suffix", [".tflite", ".pte", ".mlpackage"])
def test_the_name_of_one_file_is_no_place_for_a_bundle(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(BadInput, match=f"a bundle is a folder of files, and '{suffix}' is the name of one file"):
        check_free(tmp_path / f"m{suffix}", force=False)
    assert names(tmp_path) == []


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="File name too long"):
        check_free(tmp_path / ("x" * 300), force=False)


def test_the_folder_one_stands_in_is_not_exchanged(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shell would be left in a folder that is gone."""
    for here, said in ((old, "."), (old / "m.mlpackage", "..")):
        monkeypatch.chdir(here)
        with pytest.raises(BadInput, match="is a folder in use"):
            check_free(Path(said), force=True)
    assert content(old) == "old"


def test_a_mount_point_is_not_exchanged() -> None:
    with pytest.raises(BadInput, match=r"is a folder in use: it cannot be replaced. Choose an `out` inside it"):
        check_free(Path("/proc"), force=True)


# --- success --------------------------------------------------------------------------------------------------------


def test_every_listed_file_has_its_sha256(out: Path) -> None:
    write(out)
    listed = {file["path"]: file for file in json.loads((out / MANIFEST).read_text())["files"]}
    assert listed["m.tflite"]["sha256"] == hashlib.sha256(b"new").hexdigest()
    assert listed["m.tflite"]["bytes"] == 3
    package = hashlib.sha256(b"12:Data/weights:3:new").hexdigest()
    assert (listed["m.mlpackage"]["sha256"], listed["m.mlpackage"]["bytes"]) == (package, 3)
    assert content(out) == "new"
    assert names(out.parent) == ["bundle"]


def test_folders_above_are_made(tmp_path: Path) -> None:
    write(tmp_path / "a" / "b" / "bundle")
    assert content(tmp_path / "a" / "b" / "bundle") == "new"
    assert names(tmp_path) == ["a"]


def test_an_old_bundle_is_exchanged(old: Path) -> None:
    write(old)
    assert content(old) == "new"
    assert names(old.parent) == ["bundle"]


@pytest.mark.usefixtures("no_exchange")
def test_an_old_bundle_is_replaced_where_nothing_can_be_exchanged(old: Path) -> None:
    write(old)
    assert content(old) == "new"
    assert names(old.parent) == ["bundle"]


def test_a_system_without_renameat2(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Library:
        def __init__(self, *_: Any, **__: Any) -> None:
            """It has no functions at all."""

    monkeypatch.setattr(writing.ctypes, "CDLL", Library)
    write(old)
    assert content(old) == "new"
    assert names(old.parent) == ["bundle"]


@pytest.mark.parametrize("exchange", [True, False])
def test_a_link_is_followed(old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool) -> None:
    if not exchange:
        monkeypatch.setattr(writing, "_exchange", lambda _one, _other: False)
    link = tmp_path / "elsewhere" / "current"
    link.parent.mkdir()
    link.symlink_to(old)
    with pytest.raises(BadInput, match=r"exists. Pass `force`"):
        check_free(link, force=False)
    write(link)
    assert link.is_symlink()
    assert content(old) == "new"
    assert (names(tmp_path), names(link.parent)) == (["bundle", "elsewhere"], ["current"])


def test_a_relative_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check_free(Path("bundle"), force=False)
    write(Path("bundle"))
    write(Path("bundle"), "again")
    assert content(tmp_path / "bundle") == "again"
    assert names(tmp_path) == ["bundle"]


# --- failure --------------------------------------------------------------------------------------------------------


def write_half(out: Path, stop: type[BaseException]) -> None:
    with staged(out) as folder:
        fill(folder, "half")
        raise stop


@pytest.mark.parametrize("stop", [RuntimeError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("is_there", [False, True])
def test_a_failure_leaves_what_was(tmp_path: Path, stop: type[BaseException], is_there: bool) -> None:
    out = tmp_path / "a" / "bundle"
    if is_there:
        write(out, "old")
    with pytest.raises(stop):
        write_half(out, stop)
    if is_there:
        assert content(out) == "old"
        assert names(out.parent) == ["bundle"]
    else:
        assert names(tmp_path) == []


def failing_rename(monkeypatch: pytest.MonkeyPatch, at: int, error: BaseException) -> None:
    """The ``at``-th rename fails."""
    rename, calls = Path.rename, []

    def fail(self: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == at:
            raise error
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)


@pytest.mark.usefixtures("no_exchange")
@pytest.mark.parametrize("at", [1, 2])
@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()])
def test_the_old_one_is_put_back(old: Path, monkeypatch: pytest.MonkeyPatch, at: int, error: BaseException) -> None:
    def write_and_fail(patch: pytest.MonkeyPatch) -> None:
        with staged(old) as folder:
            fill(folder, "half")
            failing_rename(patch, at, error)

    with monkeypatch.context() as patch:
        with pytest.raises(type(error)):
            write_and_fail(patch)
    assert content(old) == "old"
    assert names(old.parent) == ["bundle"]


def test_what_appears_in_the_meantime_is_not_replaced(out: Path) -> None:
    """Even a bundle: nobody said --force."""

    def be_late() -> None:
        with staged(out) as folder:
            fill(folder, "late")
            fill(out, "first")

    with pytest.raises(BadInput, match=r"Cannot put the bundle at '.*bundle': Directory not empty"):
        be_late()
    assert content(out) == "first"
    assert names(out.parent) == ["bundle"]


def test_what_vanishes_in_the_meantime_is_no_hindrance(old: Path) -> None:
    with staged(old) as folder:
        fill(folder, "new")
        old.rename(old.with_name("moved"))
    assert (content(old), content(old.with_name("moved"))) == ("new", "old")


# --- killed ---------------------------------------------------------------------------------------------------------


def leave(out: Path, kind: str, process: int, content: str = "left") -> Path:
    folder = out.parent / f".{out.name}.{kind}-{process}"
    folder.mkdir(parents=True)
    fill(folder, content)
    return folder


def test_what_killed_processes_left_is_removed_and_that_of_living_ones_kept(out: Path) -> None:
    dead = [leave(out, kind, NO_PROCESS) for kind in ("tmp", "old", "probe")]
    same_number = leave(out, "tmp", os.getpid())  # in a container every first process is number 1
    living = leave(out, "tmp", os.getppid())
    others = [
        leave(out.with_name("bundle2"), "tmp", NO_PROCESS),
        leave(out.with_name("bundle.tmp"), "tmp", NO_PROCESS),
        leave(out, "notes", NO_PROCESS),
        out.parent / ".bundle.tmp-notes",
    ]
    others[-1].mkdir()
    write(out, "old")
    write(out)
    assert content(out) == "new"
    assert not any(folder.exists() for folder in [*dead, same_number])
    assert all(folder.exists() for folder in [living, *others])


def test_a_name_that_looks_like_a_pattern(tmp_path: Path) -> None:
    odd, like = tmp_path / "b[1]*", tmp_path / "b1x"
    mine, other = leave(odd, "tmp", NO_PROCESS), leave(like, "tmp", NO_PROCESS)
    write(odd)
    assert content(odd) == "new"
    assert not mine.exists()
    assert other.exists()


def test_one_killed_between_its_two_renames_loses_nothing(out: Path) -> None:
    """Where nothing can be exchanged there is a moment without a bundle; the next export puts the old one back."""
    leave(out, "old", NO_PROCESS, "old")
    with pytest.raises(RuntimeError), staged(out):
        raise RuntimeError
    assert content(out) == "old"
    assert names(out.parent) == ["bundle"]


CHILD = """
import sys, time
from pathlib import Path
from pipeline.bundles.write import staged
with staged(Path(sys.argv[1])) as folder:
    (folder / "m.tflite").write_bytes(bytes(1000))
    (folder / "manifest.json").write_text("{")
    print("half", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("is_there", [False, True])
def test_kill_9_leaves_no_half_bundle(out: Path, is_there: bool) -> None:
    if is_there:
        write(out, "old")
    with subprocess.Popen([sys.executable, "-c", CHILD, str(out)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "half\n"
        process.send_signal(signal.SIGKILL)
    (left,) = [name for name in names(out.parent) if name.startswith(".bundle.tmp-")]
    assert out.exists() == is_there
    if is_there:
        assert content(out) == "old"
    write(out)
    assert content(out) == "new"
    assert names(out.parent) == ["bundle"], left
