"""``pipeline bundle`` as a user types it."""

import fcntl
import hashlib
import json
import os
import pty
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cryptography")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle of one file."""
    root = tmp_path / "bundle"
    root.mkdir()
    (root / "m.tflite").write_bytes(b"model")
    digest = hashlib.sha256(b"model").hexdigest()
    model = {"path": "m.tflite", "role": "model", "target": "tflite", "precision": "fp32", "sha256": digest, "bytes": 5}
    manifest = {
        "format": 1,
        "model": "small",
        "options": {},
        "labels": ["a", "b"],
        "preprocess": {"height": 8, "width": 8},
        "provenance": {"checkpoint_sha256": "00"},
        "created": "2026-01-01T00:00:00Z",
        "files": [model],
    }
    (root / "manifest.json").write_text(json.dumps(manifest))
    return root


@pytest.fixture
def key(pipeline: Callable[..., Any], tmp_path: Path) -> Path:
    path = tmp_path / "key"
    ended = pipeline("bundle", "--new-key", path)
    assert ended.status == 0, ended.err
    assert ended.out.startswith(f"Wrote the private key '{path}', to be kept secret, and its public key '{path}.pub'")
    return path


def test_a_bundle_is_listed(pipeline: Callable[..., Any], bundle: Path, key: Path) -> None:
    ended = pipeline("bundle", bundle)
    assert ended.status == 0, ended.err
    lines = ended.out.splitlines()
    assert lines[1].split() == ["m.tflite", "model", "5", f"{hashlib.sha256(b'model').hexdigest()[:16]}…"]
    assert lines[-1] == "Not signed (no manifest.json.sig)."
    pipeline("bundle", bundle, "--sign", key)
    assert pipeline("bundle", bundle).out.splitlines()[-1].startswith("Signed (manifest.json.sig); not verified")
    listed = json.loads(pipeline("bundle", bundle, "--json").out)
    assert listed["signed"] is True
    assert listed["files"][0]["sha256"] == hashlib.sha256(b"model").hexdigest()


def test_signed_and_verified_in_one_line(pipeline: Callable[..., Any], bundle: Path, key: Path) -> None:
    signed = pipeline("bundle", bundle, "--sign", key)
    assert (signed.status, signed.err) == (0, "")
    fingerprint = signed.out.split()[5].rstrip(";")
    assert signed.out == f"Signed '{bundle}' with the key {fingerprint}; the one listed file as recorded.\n"
    verified = pipeline("bundle", bundle, "--verify", f"{key}.pub")
    assert verified.status == 0
    said = f"Verified '{bundle}': signed with the key {fingerprint}; the one listed file as recorded.\n"
    assert verified.out == said
    document = json.loads(pipeline("bundle", bundle, "--verify", f"{key}.pub", "--json").out)
    assert document == {"bundle": str(bundle), "verified": True, "key": fingerprint, "files": 1}


def edit_the_manifest(root: Path) -> None:
    path = root / "manifest.json"
    path.write_text(path.read_text().replace('"a"', '"c"'))


def edit_a_file_and_its_hash(root: Path) -> None:
    (root / "m.tflite").write_bytes(b"other")
    path = root / "manifest.json"
    before, after = (hashlib.sha256(data).hexdigest() for data in (b"model", b"other"))
    path.write_text(path.read_text().replace(before, after))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (edit_the_manifest, "does not verify with the key"),
        (edit_a_file_and_its_hash, "does not verify with the key"),
        (lambda root: (root / "m.tflite").write_bytes(b"other"), "was changed after export"),
        (lambda root: (root / "m.tflite").unlink(), "is missing"),
        (lambda root: (root / "manifest.json.sig").unlink(), "is not signed"),
    ],
)
def test_an_edit_does_not_verify(
    pipeline: Callable[..., Any], bundle: Path, key: Path, change: Callable[[Path], object], words: str
) -> None:
    pipeline("bundle", bundle, "--sign", key)
    change(bundle)
    ended = pipeline("bundle", bundle, "--verify", f"{key}.pub")
    assert (ended.status, ended.out) == (2, "")
    assert words in ended.err
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Name a bundle, or give --new-key FILE."),
        (["BUNDLE", "--sign", "KEY", "--verify", "KEY"], "--sign and --verify are different tasks"),
        (["BUNDLE", "--new-key", "OTHER"], "--new-key takes no bundle"),
        (["BUNDLE", "--sign", "KEY.pub"], "is a public key; signing needs the private one"),
        (["BUNDLE", "--verify", "KEY"], "is a private key; a public key is needed here"),
        (["--new-key", "KEY"], "exists and is not overwritten"),
    ],
)
def test_bad_usage_is_one_line(
    pipeline: Callable[..., Any], bundle: Path, key: Path, arguments: list[str], words: str
) -> None:
    places = {"BUNDLE": bundle, "KEY": key, "KEY.pub": f"{key}.pub", "OTHER": f"{key}-other"}
    ended = pipeline("bundle", *(places.get(word, word) for word in arguments))
    assert (ended.status, ended.out) == (2, "")
    assert words in ended.err
    assert ended.err.count("\n") == 1


def test_an_encrypted_key_needs_a_terminal(pipeline: Callable[..., Any], bundle: Path, tmp_path: Path) -> None:
    write_encrypted(tmp_path / "locked")
    ended = pipeline("bundle", bundle, "--sign", tmp_path / "locked")
    assert ended.status == 2
    assert "is encrypted, and its password can only be asked for in a terminal" in ended.err


def test_an_encrypted_key_is_asked_for_on_the_terminal(bundle: Path, tmp_path: Path) -> None:
    write_encrypted(tmp_path / "locked")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", "from pipeline.cli import main; main()", "bundle", str(bundle), "--sign"]
    started = subprocess.Popen(
        [*command, str(tmp_path / "locked")],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # where a password is asked for
    )
    os.close(theirs)
    said = b""
    while b"Password of" not in said:
        said += os.read(ours, 1000)
    os.write(ours, b"secret\n")
    out, _ = started.communicate(timeout=60)
    os.close(ours)
    assert started.returncode == 0
    assert out.startswith(b"Signed ")


def write_encrypted(path: Path) -> None:
    """A key whose password is ``secret``."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    kinds = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    path.write_bytes(
        Ed25519PrivateKey.generate().private_bytes(*kinds, serialization.BestAvailableEncryption(b"secret"))
    )
