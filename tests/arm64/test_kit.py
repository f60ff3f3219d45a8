"""How the parts of an emulated board are kept, and which faults are a skip and which are not."""

from __future__ import annotations

from pathlib import Path

import debian_packages
import pytest
from debian_packages import Release, UnavailableError
from kit import Kit, requirements


def test_a_part_is_made_once_and_whole_or_not_at_all(tmp_path: Path) -> None:
    kit = Kit(tmp_path / "kit")
    made = []

    def fail(out: Path, _: Path) -> None:
        (out / "half").touch()
        raise RuntimeError("the network is gone")

    def make(out: Path, _: Path) -> None:
        made.append(1)
        (out / "whole").touch()

    with pytest.raises(RuntimeError, match="the network is gone"):
        kit._part("x", ("1",), fail)
    assert not [path for path in kit.folder.iterdir() if path.is_dir()]
    part = kit._part("x", ("1",), make)
    assert [path.name for path in part.iterdir()] == ["whole"]
    assert Kit(kit.folder)._part("x", ("1",), make) == part
    assert Kit(kit.folder)._part("x", ("2",), make) != part
    assert len(made) == 2


def test_a_folder_that_others_can_write_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(RuntimeError, match="can be written by others"):
        Kit(tmp_path)


def test_another_kind_of_machine_is_no_comparison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    with pytest.raises(UnavailableError, match="this machine is aarch64"):
        Kit(tmp_path / "kit")


def test_each_runtime_of_the_board_is_what_its_extra_asks_for() -> None:
    litert, tflite = (" ".join(requirements(extra)) for extra in ("litert", "tflite"))
    assert "ai-edge-litert" in litert
    assert "tflite-runtime==2.14.*" in tflite
    assert "numpy<2" in tflite
    assert "opencv-python-headless" in litert
    assert "extra" not in litert + tflite


needs_apt = pytest.mark.skipif(not debian_packages.KEYRING.is_file(), reason="NOT RUN: this is no Debian machine")


@needs_apt
def test_a_mirror_that_does_not_answer_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="apt-get -q -y update: "):
        Release("bookworm", "arm64", tmp_path / "apt", uri=f"file:{tmp_path}/nowhere")


@needs_apt
def test_a_package_that_does_not_exist_is_a_fault(tmp_path: Path) -> None:
    release = Release.__new__(Release)
    release._folder = tmp_path / "apt"
    debian_packages._write_settings(release._folder, "bookworm", "arm64", f"file:{tmp_path}/nowhere")
    with pytest.raises(RuntimeError, match="no-such-package"):
        release.download(["no-such-package"])


@pytest.mark.parametrize("tool", ["apt-get", "dpkg-deb"])
def test_a_machine_without_debians_tools_is_unavailable(
    tool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None if name == tool else f"/usr/bin/{name}")
    with pytest.raises(UnavailableError, match=f"'{tool}' is not installed"):
        Release("bookworm", "arm64", tmp_path / "apt")


def test_another_systems_machine_is_sent_to_debians_own_mirrors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "apt-get"
    tool.write_text("#!/bin/sh\necho http://archive.ubuntu.com/ubuntu/\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert debian_packages.mirror() == debian_packages.DEFAULT_MIRROR
    tool.write_text("#!/bin/sh\necho http://mirror.example/debian-security/\necho http://mirror.example/debian/\n")
    assert debian_packages.mirror() == "http://mirror.example/debian"
