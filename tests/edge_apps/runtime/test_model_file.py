"""Model files that users name: held to the manifest beside them, whatever state it is in. Needs no runtime."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from edge_apps.errors import BadInput, BadManifest, ChangedFile
from edge_apps.runtime import model_file, registry
from edge_apps.runtime.content import Content, sha256_of, size_of
from edge_apps.runtime.manifest import load_bundle, parse_file_manifest
from edge_apps.runtime.model_file import contradiction, read_model, vanished
from edge_apps.runtime.runner import open_runner

ABOUT = {
    "format": 1,
    "model": "mobilenet_v2",
    "options": {},
    "labels": ["cat", "dog"],
    "preprocess": {"height": 8, "width": 10},
    "provenance": {"checkpoint_sha256": "00"},
}
KINDS = {"m.tflite": "tflite", "m.pte": "executorch", "m.mlpackage": "coreml"}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Two files and a package; one file is not listed."""
    root = tmp_path / "bundle"
    (root / "m.mlpackage").mkdir(parents=True)
    (root / "m.mlpackage" / "weights").write_bytes(b"w")
    for name in ("m.tflite", "m.pte", "mine.tflite", "checkpoint"):
        (root / name).write_bytes(name.encode())
    files = [
        {"path": name, "role": "model", "target": target, "precision": "int8"} for name, target in KINDS.items()
    ] + [{"path": "checkpoint", "role": "checkpoint"}]
    for file in files:
        file |= {"sha256": sha256_of(root / file["path"]), "bytes": size_of(root / file["path"])}
    (root / "manifest.json").write_text(json.dumps({**ABOUT, "created": "2026-01-01T00:00:00Z", "files": files}))
    return root


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, bool]]:
    """What was tried out in another process."""
    seen: list[tuple[Path, bool]] = []
    for suffix in (".tflite", ".pte", ".mlpackage"):
        monkeypatch.setitem(registry._elsewhere, suffix, lambda: None)
    monkeypatch.setattr(model_file, "try_out", lambda content, *, xnnpack: seen.append((content.path, xnnpack)))
    return seen


def test_a_file_in_a_bundle_is_held_to_its_hash(bundle: Path, tried: list[tuple[Path, bool]]) -> None:
    for name in KINDS:
        found = read_model(bundle / name)
        assert found.content.sha256 == sha256_of(bundle / name)
        assert found.listed is not None
        assert found.listed.path == name
    assert not tried


def test_a_file_that_stands_alone_is_tried_out(tmp_path: Path, tried: list[tuple[Path, bool]]) -> None:
    path = tmp_path / "alone.tflite"
    path.write_bytes(b"bytes")
    found = read_model(path, xnnpack=False)
    assert (found.content.data, found.bundle, tried) == (b"bytes", None, [(path, False)])


@pytest.mark.parametrize("suffix", [".tflite", ".pte", ".mlpackage"])
def test_a_missing_file(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(BadInput, match=f"No such file: '.*none{suffix}'"):
        read_model(tmp_path / f"none{suffix}")


def test_a_file_that_the_bundle_does_not_list(bundle: Path) -> None:
    (bundle / "m.pte").rename(bundle / "renamed.pte")
    for name in ("renamed.pte", "mine.tflite"):
        with pytest.raises(ChangedFile, match=rf"{name}' is not listed in the manifest"):
            read_model(bundle / name)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:100]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text('{"name": "webapp"}'),
        lambda path: path.write_text(path.read_text().replace('"format": 1', '"format": 2')),
        lambda path: path.write_bytes(b'{"a": ' + b"[" * 100_000),
        lambda path: (path.unlink(), path.mkdir()),
        lambda path: (path.unlink(), path.symlink_to("nowhere")),
        lambda path: (path.unlink(), os.mkfifo(path)),
    ],
    ids=["truncated", "empty", "of something else", "newer", "nested", "folder", "broken link", "fifo"],
)
def test_only_no_manifest_at_all_means_that_a_file_stands_alone(
    bundle: Path, tried: list[tuple[Path, bool]], damage
) -> None:
    damage(bundle / "manifest.json")
    with pytest.raises(BadManifest, match=r"m\.tflite' is not run, because its bundle cannot be checked: "):
        read_model(bundle / "m.tflite")
    (bundle / "manifest.json").rename(bundle / "other.json")
    assert read_model(bundle / "m.tflite").bundle is None
    assert len(tried) == 1


def test_a_changed_file_is_refused(bundle: Path) -> None:
    (bundle / "m.pte").write_bytes(b"M.pte")
    (bundle / "m.mlpackage" / "weights").write_bytes(b"v")
    for name in ("m.pte", "m.mlpackage"):
        with pytest.raises(ChangedFile, match=rf"{name}' was changed after export \(sha256 .*will not be run"):
            read_model(bundle / name)
    assert read_model(bundle / "m.tflite")


def test_links_and_fifos_in_a_bundle(bundle: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.pte"
    (bundle / "m.pte").rename(outside)
    (bundle / "m.pte").symlink_to(outside)
    with pytest.raises(ChangedFile, match=r"m\.pte' is a link that leads out of the bundle"):
        read_model(bundle / "m.pte")
    (bundle / "m.tflite").rename(bundle / "blob")
    (bundle / "m.tflite").symlink_to("blob")
    assert read_model(bundle / "m.tflite").content.data == b"m.tflite"
    (bundle / "blob").unlink()
    os.mkfifo(bundle / "blob")
    with pytest.raises(ChangedFile, match="it is a FIFO, not a file"):
        read_model(bundle / "m.tflite")
    (bundle / "m.mlpackage" / "link").symlink_to("/etc/passwd")
    with pytest.raises(ChangedFile, match="'link' in it is a link"):
        read_model(bundle / "m.mlpackage")


def test_a_link_from_outside_names_the_file_of_the_bundle(
    bundle: Path, tmp_path: Path, tried: list[tuple[Path, bool]]
) -> None:
    for name in KINDS:
        (tmp_path / f"current.{name}").symlink_to(bundle / name)
    (tmp_path / "chain.pte").symlink_to("current.m.pte")
    for name in ("current.m.tflite", "current.m.mlpackage", "chain.pte"):
        assert read_model(tmp_path / name).listed
    (bundle / "m.pte").write_bytes(b"M.pte")
    with pytest.raises(ChangedFile, match=r"m\.pte' was changed after export"):
        read_model(tmp_path / "chain.pte")
    (bundle / "manifest.json").write_bytes(b"{")
    with pytest.raises(BadManifest, match=r"m\.tflite' is not run, because its bundle cannot be checked"):
        read_model(tmp_path / "current.m.tflite")
    assert not tried
    (tmp_path / "blob").write_bytes(b"alone")
    (tmp_path / "alone.tflite").symlink_to("blob")
    assert read_model(tmp_path / "alone.tflite").bundle is None


def test_bytes_are_those_that_were_hashed(bundle: Path) -> None:
    found = read_model(bundle / "m.tflite")
    (bundle / "m.tflite").write_bytes(b"exchanged")
    assert found.content.data == b"m.tflite"


def test_a_package_is_copied_as_it_was_read(bundle: Path) -> None:
    content = Content.read(bundle / "m.mlpackage")
    (bundle / "m.mlpackage" / "weights").write_bytes(b"exchanged")
    with content.on_disk() as copy:
        assert (copy / "weights").read_bytes() == b"w"
        assert copy.parent.stat().st_mode & 0o777 == 0o700
        assert sha256_of(copy) == content.sha256
    assert not copy.exists()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, None),
        ({"precision": "fp32"}, "It says that it is tflite fp32; the manifest lists tflite int8"),
        ({"target": "executorch"}, "It says that it is executorch int8"),
        ({"labels": ["dog", "cat"]}, "It records other labels than"),
        ({"model": "resnet18"}, "It records another model than"),
        ({"options": {"width": 2}}, "It records other options of the model than"),
        ({"preprocess": {"height": 8, "width": 8}}, "It records another preprocessing than"),
        ({"output": "probabilities"}, "It records another kind of output than"),
        ({"provenance": {"checkpoint_sha256": "01"}}, "It was made of another checkpoint"),
        ({"provenance": {"checkpoint_sha256": "00", "ranges_sha256": "02"}}, "It was quantized with other ranges"),
    ],
    ids=str,
)
def test_what_a_file_says_of_itself_against_its_manifest(bundle: Path, changes: dict, says: str | None) -> None:
    about = parse_file_manifest(json.dumps({**ABOUT, "target": "tflite", "precision": "int8", **changes}), Path("m"))
    loaded = load_bundle(bundle)
    listed = loaded.models()[0]
    found = contradiction(loaded.manifest, listed, about)
    assert found is None if says is None else found is not None and found.startswith(says)


def test_models_that_were_exported_together(bundle: Path) -> None:
    said = {**ABOUT, "target": "tflite", "precision": "int8", "exported": ["m.tflite", "m.pte"]}
    about = parse_file_manifest(json.dumps(said), Path("m"))
    assert vanished(load_bundle(bundle).manifest, about) is None
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"] = [file for file in manifest["files"] if file["path"] != "m.pte"]
    path.write_text(json.dumps(manifest))
    assert vanished(load_bundle(bundle).manifest, about) == (
        "It was exported together with 'm.pte', which the manifest does not list. Export again."
    )


def test_a_path_is_read_and_held_to_its_bundle_before_it_is_opened(
    bundle: Path, tried: list[tuple[Path, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a script opens a file: the same care as behind the commands."""
    monkeypatch.setitem(registry._factories, ".tflite", lambda content, threads: (content.data, threads))
    assert open_runner(bundle / "m.tflite", 2) == (b"m.tflite", 2)
    assert not tried
    (bundle / "m.tflite").write_bytes(b"changed")
    with pytest.raises(ChangedFile, match="was changed after export"):
        open_runner(bundle / "m.tflite")
    (bundle / "m.tflite").rename(bundle.parent / "alone.tflite")
    assert open_runner(bundle.parent / "alone.tflite") == (b"changed", 1)
    assert tried == [(bundle.parent / "alone.tflite", True)]
