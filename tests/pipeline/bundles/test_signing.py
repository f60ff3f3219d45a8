"""Signing: with the keys that people have, of files that are what the manifest lists, and as openssl verifies it."""

import hashlib
import json
import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_apps.runtime.signature import read_public_key
from pipeline.bundles.signing import new_key, public_half, read_private_key, sign_bundle, verify_bundle
from pipeline.errors import BadInput, ChangedFile, Untrusted

pytest.importorskip("cryptography")


def nobody() -> str:
    raise BadInput("nobody is asked")


def tool(*command: object) -> subprocess.CompletedProcess[bytes]:
    """Run openssl or ssh-keygen."""
    words = [str(word) for word in command]
    if shutil.which(words[0]) is None:
        pytest.skip(f"no {words[0]} on this machine: that its keys are read was NOT tested")
    return subprocess.run(words, capture_output=True, stdin=subprocess.DEVNULL, timeout=60)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle of two files."""
    root = tmp_path / "bundle"
    root.mkdir()
    files = []
    for name, role in (("m.tflite", "model"), ("recipe.toml", "recipe")):
        (root / name).write_bytes(name.encode())
        digest = hashlib.sha256(name.encode()).hexdigest()
        kind = {"target": "tflite", "precision": "fp32"} if role == "model" else {}
        files.append({"path": name, "role": role, "sha256": digest, "bytes": len(name), **kind})
    manifest = {
        "format": 1,
        "model": "small",
        "options": {},
        "labels": ["a", "b"],
        "preprocess": {"height": 8, "width": 8},
        "provenance": {"checkpoint_sha256": "00"},
        "created": "2026-01-01T00:00:00Z",
        "files": files,
    }
    (root / "manifest.json").write_text(json.dumps(manifest))
    return root


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    new_key(path)
    return path


def test_a_bundle_that_was_signed_verifies(bundle: Path, key: Path) -> None:
    before = (bundle / "manifest.json").read_bytes()
    signed, signer = sign_bundle(bundle, key, nobody)
    public = read_public_key(public_half(key))
    assert signer.fingerprint == public.fingerprint
    assert verify_bundle(bundle, public).manifest == signed.manifest
    assert (bundle / "manifest.json").read_bytes() == before
    assert len((bundle / "manifest.json.sig").read_bytes()) == 64
    assert not list(bundle.glob(".*"))


def test_signing_again_replaces_the_signature(bundle: Path, key: Path, tmp_path: Path) -> None:
    sign_bundle(bundle, key, nobody)
    new_key(tmp_path / "other")
    sign_bundle(bundle, tmp_path / "other", nobody)
    verify_bundle(bundle, read_public_key(tmp_path / "other.pub"))
    with pytest.raises(Untrusted, match="does not verify"):
        verify_bundle(bundle, read_public_key(public_half(key)))


def test_a_link_in_place_of_the_signature_is_replaced_and_not_followed(bundle: Path, key: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (bundle / "manifest.json.sig").symlink_to(tmp_path / "precious")
    sign_bundle(bundle, key, nobody)
    assert (tmp_path / "precious").read_text() == "precious"
    verify_bundle(bundle, read_public_key(public_half(key)))


@pytest.mark.parametrize("change", [lambda path: path.unlink(), lambda path: path.write_bytes(b"other")])
@pytest.mark.parametrize("name", ["m.tflite", "recipe.toml"])
def test_a_file_that_is_not_the_listed_one_is_neither_signed_nor_verified(
    bundle: Path, key: Path, name: str, change: Callable[[Path], object]
) -> None:
    whole = shutil.copytree(bundle, bundle.with_name("whole"))
    sign_bundle(whole, key, nobody)
    change(whole / name)
    with pytest.raises(ChangedFile, match=name):
        verify_bundle(whole, read_public_key(public_half(key)))
    change(bundle / name)
    with pytest.raises(ChangedFile, match=name):
        sign_bundle(bundle, key, nobody)
    assert not (bundle / "manifest.json.sig").exists()


def test_openssl_verifies_it_and_its_signature_verifies_here(bundle: Path, key: Path) -> None:
    sign_bundle(bundle, key, nobody)
    manifest, signature = bundle / "manifest.json", bundle / "manifest.json.sig"
    files = ["-rawin", "-in", manifest, "-sigfile", signature]
    said = tool("openssl", "pkeyutl", "-verify", "-pubin", "-inkey", public_half(key), *files)
    assert said.returncode == 0, said.stderr
    assert b"Verified Successfully" in said.stdout
    signature.unlink()
    signed = tool("openssl", "pkeyutl", "-sign", "-inkey", key, "-rawin", "-in", manifest, "-out", signature)
    assert signed.returncode == 0, signed.stderr
    verify_bundle(bundle, read_public_key(public_half(key)))
    with manifest.open("a") as stream:
        stream.write(" ")
    assert tool("openssl", "pkeyutl", "-verify", "-pubin", "-inkey", public_half(key), *files).returncode != 0


def made_by_openssl(folder: Path) -> tuple[Path, Path]:
    assert tool("openssl", "genpkey", "-algorithm", "ed25519", "-out", folder / "private.pem").returncode == 0
    tool("openssl", "pkey", "-in", folder / "private.pem", "-pubout", "-out", folder / "public.pem")
    return folder / "private.pem", folder / "public.pem"


def encrypted_by_openssl(folder: Path) -> tuple[Path, Path]:
    words = ["-aes256", "-pass", "pass:secret"]
    tool("openssl", "genpkey", "-algorithm", "ed25519", *words, "-out", folder / "private.pem")
    words = ["-passin", "pass:secret"]
    tool("openssl", "pkey", "-in", folder / "private.pem", *words, "-pubout", "-out", folder / "public.pem")
    return folder / "private.pem", folder / "public.pem"


def made_by_ssh_keygen(folder: Path, password: str = "") -> tuple[Path, Path]:
    path = folder / "id_ed25519"
    assert tool("ssh-keygen", "-q", "-t", "ed25519", "-N", password, "-a", "4", "-f", path).returncode == 0
    return path, folder / "id_ed25519.pub"


def encrypted_by_ssh_keygen(folder: Path) -> tuple[Path, Path]:
    return made_by_ssh_keygen(folder, "secret")


@pytest.mark.parametrize("make", [made_by_openssl, made_by_ssh_keygen])
def test_keys_of_other_programs(bundle: Path, tmp_path: Path, make: Callable[[Path], tuple[Path, Path]]) -> None:
    private, public = make(tmp_path)
    sign_bundle(bundle, private, nobody)
    verify_bundle(bundle, read_public_key(public))


@pytest.mark.parametrize("make", [encrypted_by_openssl, encrypted_by_ssh_keygen])
def test_an_encrypted_key_asks_for_its_password(
    bundle: Path, tmp_path: Path, make: Callable[[Path], tuple[Path, Path]]
) -> None:
    private, public = make(tmp_path)
    with pytest.raises(BadInput, match="nobody is asked"):
        sign_bundle(bundle, private, nobody)
    with pytest.raises(BadInput, match="the password is wrong") as error:
        sign_bundle(bundle, private, lambda: "guess")
    assert "\n" not in str(error.value)
    sign_bundle(bundle, private, lambda: "secret")
    verify_bundle(bundle, read_public_key(public))


def test_a_key_that_cannot_sign_is_told_in_one_line(bundle: Path, key: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a key")
    (tmp_path / "cut").write_bytes(key.read_bytes()[:70])
    rsa = tmp_path / "rsa"
    tool("openssl", "genpkey", "-algorithm", "RSA", "-out", rsa)
    said = {
        public_half(key): "is a public key; signing needs the private one",
        tmp_path / "text": r"is not a private key \(PEM or OpenSSH\)",
        tmp_path / "cut": "cannot be read",
        rsa: "is a key for RSA; bundles are signed with Ed25519 keys",
        tmp_path / "none": "No such file",
    }
    for path, words in said.items():
        with pytest.raises(BadInput, match=words) as error:
            sign_bundle(bundle, path, nobody)
        assert "\n" not in str(error.value)
    assert not (bundle / "manifest.json.sig").exists()


def test_what_is_no_bundle_is_not_signed(tmp_path: Path, key: Path) -> None:
    with pytest.raises(BadInput, match="is not a bundle"):
        sign_bundle(tmp_path, key, nobody)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_a_new_key_is_its_owners_alone(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        new_key(tmp_path / "key")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "key.pub").stat().st_mode) == 0o644 & ~umask
    read_private_key(tmp_path / "key", nobody)


@pytest.mark.parametrize("taken", ["key", "key.pub"])
def test_a_new_key_overwrites_nothing(tmp_path: Path, taken: str) -> None:
    (tmp_path / taken).write_text("mine")
    with pytest.raises(BadInput, match=f"{taken}' exists and is not overwritten"):
        new_key(tmp_path / "key")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {taken: "mine"}


def test_a_new_key_follows_no_link_and_lies_in_no_bundle(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadInput, match="exists"):
        new_key(tmp_path / "key")
    assert not (tmp_path / "elsewhere").exists()
    with pytest.raises(BadInput, match="lies in a bundle, which is copied to devices"):
        new_key(bundle / "key")
    (bundle / "float").mkdir()
    with pytest.raises(BadInput, match="lies in a bundle"):
        new_key(bundle / "float" / "key")
    with pytest.raises(BadInput, match="Cannot write"):
        new_key(tmp_path / "none" / "key")
