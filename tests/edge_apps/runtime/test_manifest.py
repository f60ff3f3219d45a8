"""Manifests: what they must say, and files that are not what was recorded."""

import hashlib
import json
from pathlib import Path

import pytest

from edge_apps.errors import BadInput, BadManifest, ChangedFile
from edge_apps.runtime.content import sha256_of, size_of
from edge_apps.runtime.manifest import load_bundle, parse_file_manifest, to_json, with_empty, without_empty

FILE = {
    "format": 1,
    "model": "mobilenet_v2",
    "options": {"width": 1.0},
    "target": "tflite",
    "precision": "int8",
    "labels": ["cat", "dog"],
    "preprocess": {"height": 96, "width": 96},
    "provenance": {"checkpoint_sha256": "00"},
}


def changed(**fields: object) -> str:
    return json.dumps({**FILE, **fields})


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle of one model file and one .mlpackage folder."""
    root = tmp_path / "bundle"
    (root / "m.mlpackage" / "Data").mkdir(parents=True)
    (root / "m.mlpackage" / "Manifest.json").write_text("{}")
    (root / "m.mlpackage" / "Data" / "weights.bin").write_bytes(bytes(100))
    (root / "m.tflite").write_bytes(b"model")
    write_manifest(root, [entry(root, "m.tflite"), entry(root, "m.mlpackage")])
    return root


def entry(root: Path, path: str, **fields: object) -> dict:
    kind = {"m.tflite": "tflite", "m.mlpackage": "coreml"}.get(path)
    about = {"path": path, "role": "model", "target": kind, "precision": "int8", **fields}
    return {**about, "sha256": sha256_of(root / path), "bytes": size_of(root / path)}


def write_manifest(root: Path, files: list[dict], **fields: object) -> None:
    kept = ("format", "model", "options", "labels", "preprocess", "provenance")
    whole = {**{key: FILE[key] for key in kept}, "created": "2026-01-01T00:00:00Z", "files": files, **fields}
    (root / "manifest.json").write_text(json.dumps(whole))


def test_a_file_manifest_comes_back_as_it_went() -> None:
    manifest = parse_file_manifest(json.dumps(FILE), Path("m.tflite"))
    assert manifest.labels == ("cat", "dog")
    assert manifest.options == {"width": 1.0}
    assert parse_file_manifest(to_json(manifest), Path("m.tflite")) == manifest
    assert parse_file_manifest(to_json(manifest).encode(), Path("m.tflite")) == manifest


def test_what_a_file_answers_with(bundle: Path) -> None:
    assert parse_file_manifest(json.dumps(FILE), Path("m.tflite")).output == "logits", "files from before the key"
    assert load_bundle(bundle).manifest.output == "logits"
    for kind in ("logits", "probabilities", "independent-probabilities"):
        manifest = parse_file_manifest(changed(output=kind), Path("m.tflite"))
        assert manifest.output == kind
        assert json.loads(to_json(manifest))["output"] == kind
        write_manifest(bundle, [], output=kind)
        assert load_bundle(bundle).manifest.output == kind
    with pytest.raises(BadManifest, match=r"Manifest in 'm\.tflite' cannot be read: Invalid enum value 'votes'"):
        parse_file_manifest(changed(output="votes"), Path("m.tflite"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "cannot be read"),
        ("null", "Expected `object`"),
        ("[]", "Expected `object`"),
        ("{", "cannot be read"),
        (json.dumps(FILE)[:-1], "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        (b"\xff\xfe\x00", "cannot be read"),
        (changed(format=2), "reads up to 1: upgrade"),
        (changed(format=10**30), "reads up to 1: upgrade"),
        (changed(format=0), "has format 0; the first one is 1"),
        (changed(format="1"), "got `str`"),
        (changed(format=True), "got `bool`"),
        (changed(precision="int4"), "Invalid enum value 'int4'"),
        (changed(labels=[]), "labels is empty"),
        (changed(labels="cat"), "Expected `array`"),
        (changed(preprocess={"height": 96}), "missing required field `width`"),
        (changed(preprocess={"height": 0, "width": 1}), "at least 1"),
        (json.dumps({k: v for k, v in FILE.items() if k != "labels"}), "missing required field `labels`"),
    ],
)
def test_a_file_manifest_that_does_not_say_what_it_must(text: str | bytes, says: str) -> None:
    with pytest.raises(BadManifest) as error:
        parse_file_manifest(text, Path("somewhere/m.tflite"))
    assert says in str(error.value)
    assert "somewhere/m.tflite" in str(error.value)
    assert "\n" not in str(error.value)


def test_later_fields_of_the_same_format_are_passed_over() -> None:
    assert parse_file_manifest(changed(remark="hello"), Path("m.tflite")).model == "mobilenet_v2"


def test_a_bundle_is_loaded_and_verified(bundle: Path) -> None:
    loaded = load_bundle(bundle)
    assert [loaded.read(file).path for file in loaded.models()] == [bundle / "m.tflite", bundle / "m.mlpackage"]
    with pytest.raises(BadManifest, match="lists no checkpoint"):
        loaded.file("checkpoint")


def test_a_changed_file_is_refused(bundle: Path) -> None:
    (bundle / "m.tflite").write_bytes(b"Model")
    loaded = load_bundle(bundle)
    with pytest.raises(ChangedFile, match=r"m\.tflite' was changed after export"):
        loaded.read(loaded.models()[0])
    assert loaded.read(loaded.models()[1])


@pytest.mark.parametrize("what", ["content", "name", "added", "removed", "moved bytes"])
def test_a_changed_package_is_refused(bundle: Path, what: str) -> None:
    weights = bundle / "m.mlpackage" / "Data" / "weights.bin"
    if what == "content":
        weights.write_bytes(bytes(99) + b"\1")
    elif what == "name":
        weights.rename(weights.with_name("weight.bin"))
    elif what == "added":
        weights.with_name("more.bin").touch()
    elif what == "removed":
        weights.unlink()
    else:
        (bundle / "m.mlpackage" / "Manifest.json").write_bytes(b"{}" + bytes(50))
        weights.write_bytes(bytes(50))
    loaded = load_bundle(bundle)
    with pytest.raises(ChangedFile, match="was changed after export"):
        loaded.read(loaded.models()[1])


def test_a_missing_file_is_named(bundle: Path) -> None:
    (bundle / "m.tflite").unlink()
    loaded = load_bundle(bundle)
    with pytest.raises(ChangedFile, match="is missing"):
        loaded.read(loaded.models()[0])


@pytest.mark.parametrize("path", ["../m.tflite", "/etc/passwd", "a/../../m.tflite", "", ".", "./m.tflite", "a//b"])
def test_a_path_outside_the_bundle_is_refused(bundle: Path, path: str) -> None:
    write_manifest(bundle, [{"path": path, "role": "recipe", "sha256": "00", "bytes": 1}])
    with pytest.raises(BadManifest, match="not the plain path of a file inside the bundle"):
        load_bundle(bundle)


def test_what_is_no_bundle_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(BadInput, match=r"has no manifest\.json"):
            load_bundle(path)


@pytest.mark.parametrize(
    ("fields", "says"),
    [({"format": 2}, "upgrade"), ({"labels": []}, "labels is empty"), ({"created": 3}, "Expected `str`")],
)
def test_a_bundle_manifest_that_does_not_say_what_it_must(bundle: Path, fields: dict, says: str) -> None:
    write_manifest(bundle, [], **fields)
    with pytest.raises(BadManifest, match=says):
        load_bundle(bundle)


def test_the_hash_of_a_file_is_its_sha256(tmp_path: Path) -> None:
    data = bytes(range(256)) * 10_000  # more than one chunk
    (tmp_path / "x").write_bytes(data)
    assert sha256_of(tmp_path / "x") == hashlib.sha256(data).hexdigest()
    assert size_of(tmp_path / "x") == len(data)


def test_the_hash_of_a_folder_is_of_names_sizes_and_bytes(bundle: Path) -> None:
    said = b"16:Data/weights.bin:100:" + bytes(100) + b"13:Manifest.json:2:{}"
    assert sha256_of(bundle / "m.mlpackage") == hashlib.sha256(said).hexdigest()
    assert size_of(bundle / "m.mlpackage") == 102
    (bundle / "m.mlpackage" / "caf\udce9").touch()  # a name that is no UTF-8
    assert len(sha256_of(bundle / "m.mlpackage")) == 64


def test_records_that_may_be_missing_are_empty_in_format_1() -> None:
    nested = {"files": [{"path": "a", "delegated": None}, {"path": "b", "delegated": {"share": 1.0}}], "search": None}
    written = with_empty(nested)
    assert written == {
        "files": [{"path": "a", "delegated": {}}, {"path": "b", "delegated": {"share": 1.0}}],
        "search": {},
    }
    assert without_empty(written) == {"files": [{"path": "a"}, {"path": "b", "delegated": {"share": 1.0}}]}
    assert without_empty({"files": "no list", "options": {}}) == {"files": "no list", "options": {}}
