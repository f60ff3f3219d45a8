"""Which keys and signatures are taken, and what each of the others is told."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge_apps.errors import BadInput, BadManifest, MissingExtra, Untrusted
from edge_apps.runtime.manifest import load_bundle
from edge_apps.runtime.model_file import bundle_around
from edge_apps.runtime.signature import is_signed, read_public_key, signature_of, trusted_key

ed25519 = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519")
serialization = pytest.importorskip("cryptography.hazmat.primitives.serialization")

MANIFEST = {
    "format": 1,
    "model": "small",
    "options": {},
    "labels": ["a", "b"],
    "preprocess": {"height": 8, "width": 8},
    "provenance": {"checkpoint_sha256": "00"},
    "created": "2026-01-01T00:00:00Z",
    "files": [],
}


@pytest.fixture
def private():
    return ed25519.Ed25519PrivateKey.generate()


def write_public(path: Path, private, kind: str = "pem") -> Path:
    encodings = {
        "pem": (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
        "ssh": (serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH),
    }
    path.write_bytes(private.public_key().public_bytes(*encodings[kind]))
    return path


@pytest.fixture
def key(private, tmp_path: Path):
    return read_public_key(write_public(tmp_path / "key.pub", private))


@pytest.fixture
def bundle(private, tmp_path: Path) -> Path:
    """A signed bundle."""
    root = tmp_path / "bundle"
    root.mkdir()
    (root / "manifest.json").write_text(json.dumps(MANIFEST))
    (root / "manifest.json.sig").write_bytes(private.sign((root / "manifest.json").read_bytes()))
    return root


def test_a_signed_bundle_is_loaded(bundle: Path, key) -> None:
    assert load_bundle(bundle, key).manifest.model == "small"
    assert bundle_around(bundle / "m.tflite", key).root == bundle
    assert signature_of(bundle / "manifest.json") == bundle / "manifest.json.sig"
    assert is_signed(bundle / "manifest.json")


def test_without_a_key_nothing_is_asked_of_the_signature(bundle: Path) -> None:
    (bundle / "manifest.json.sig").write_bytes(b"nothing")
    assert load_bundle(bundle).manifest.model == "small"
    assert trusted_key(None) is None


def test_the_bytes_that_are_verified_are_the_bytes_that_are_read(bundle: Path, key, monkeypatch) -> None:
    """Whoever exchanges the file between two reads finds no second one."""
    reads = []
    read_bytes, opened = Path.read_bytes, os.open

    def counted(path: Path) -> bytes:
        reads.append(path.name)
        return read_bytes(path)

    def counted_open(path, *more, **named) -> int:
        reads.append(Path(path).name)
        return opened(path, *more, **named)

    monkeypatch.setattr(Path, "read_bytes", counted)
    monkeypatch.setattr(os, "open", counted_open)
    load_bundle(bundle, key)
    assert sorted(reads) == ["manifest.json", "manifest.json.sig"]


def edited(root: Path) -> None:
    path = root / "manifest.json"
    path.write_text(path.read_text().replace('"a"', '"c"'))


def with_a_space(root: Path) -> None:
    with (root / "manifest.json").open("a") as stream:
        stream.write(" ")


def of_another_key(root: Path) -> None:
    other = ed25519.Ed25519PrivateKey.generate()
    (root / "manifest.json.sig").write_bytes(other.sign((root / "manifest.json").read_bytes()))


def with_one_bit_changed(root: Path) -> None:
    data = bytearray((root / "manifest.json.sig").read_bytes())
    data[5] ^= 1
    (root / "manifest.json.sig").write_bytes(data)


def shortened(root: Path) -> None:
    (root / "manifest.json.sig").write_bytes(bytes(63))


def prolonged(root: Path) -> None:
    with (root / "manifest.json.sig").open("ab") as stream:
        stream.write(b"\n")


def removed(root: Path) -> None:
    (root / "manifest.json.sig").unlink()


def linked(root: Path) -> None:
    (root / "manifest.json.sig").rename(root.parent / "elsewhere.sig")
    (root / "manifest.json.sig").symlink_to(root.parent / "elsewhere.sig")


def a_fifo(root: Path) -> None:
    (root / "manifest.json.sig").unlink()
    os.mkfifo(root / "manifest.json.sig")


def a_folder(root: Path) -> None:
    (root / "manifest.json.sig").unlink()
    (root / "manifest.json.sig").mkdir()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (edited, "does not verify with the key"),
        (with_a_space, "does not verify with the key"),
        (of_another_key, "does not verify with the key"),
        (with_one_bit_changed, "does not verify with the key"),
        (shortened, "has 63 bytes instead of 64"),
        (prolonged, "has 65 bytes instead of 64"),
        (removed, "is not signed .*'pipeline bundle .*' signs it with a key as `sign`"),
        (linked, "is a link"),
        (a_fifo, "it is a FIFO, not a file"),
        (a_folder, "Is a directory"),
    ],
)
def test_anything_else_is_not_trusted(bundle: Path, key, change, words: str) -> None:
    change(bundle)
    for load in (load_bundle, lambda root, trust: bundle_around(root / "m.tflite", trust)):
        with pytest.raises(Untrusted, match=words) as error:
            load(bundle, key)
        assert error.value.exit_status == 2
        assert "\n" not in str(error.value)


def test_a_file_that_stands_alone_is_not_trusted(tmp_path: Path, key) -> None:
    with pytest.raises(Untrusted, match="'.*alone.tflite' stands alone"):
        bundle_around(tmp_path / "alone.tflite", key)


def test_a_signed_manifest_must_still_say_what_it_must(bundle: Path, key, private) -> None:
    (bundle / "manifest.json").write_text("{}")
    (bundle / "manifest.json.sig").write_bytes(private.sign(b"{}"))
    with pytest.raises(BadManifest):
        load_bundle(bundle, key)


def test_a_key_has_one_fingerprint_in_every_format(private, tmp_path: Path) -> None:
    keys = [read_public_key(write_public(tmp_path / kind, private, kind)) for kind in ("pem", "ssh")]
    assert keys[0].fingerprint == keys[1].fingerprint
    (tmp_path / "commented").write_text((tmp_path / "ssh").read_text() + " me@board\n")
    assert read_public_key(tmp_path / "commented").fingerprint == keys[0].fingerprint


def test_the_fingerprint_is_that_of_ssh_keygen(private, tmp_path: Path) -> None:
    path = write_public(tmp_path / "key.pub", private, "ssh")
    try:
        shown = subprocess.run(["ssh-keygen", "-lf", str(path)], capture_output=True, text=True, check=True)
    except FileNotFoundError:
        pytest.skip("no ssh-keygen on this machine: its fingerprint was NOT compared")
    assert shown.stdout.split()[1] == read_public_key(path).fingerprint


def pem(key, private: bool) -> bytes:
    if private:
        kinds = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        return key.private_bytes(serialization.Encoding.PEM, *kinds)
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def other_keys() -> dict[str, tuple[bytes, str]]:
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa

    ours = ed25519.Ed25519PrivateKey.generate()
    elliptic = ec.generate_private_key(ec.SECP256R1())
    ssh = (serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    line = ours.public_key().public_bytes(*ssh)
    return {
        "private": (pem(ours, True), "is a private key"),
        "openssh private": (
            ours.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
            ),
            "is a private key",
        ),
        "RSA": (pem(rsa.generate_private_key(65537, 2048), False), "is a key for RSA; .* Ed25519"),
        "EC": (pem(elliptic, False), "is a key for (EC|EllipticCurve); .* Ed25519"),
        "Ed448": (pem(ed448.Ed448PrivateKey.generate(), False), "is a key for Ed448; .* Ed25519"),
        "ssh EC": (elliptic.public_key().public_bytes(*ssh), "is not an Ed25519 public key"),
        "ssh certificate": (line.replace(b"ssh-ed25519", b"ssh-ed25519-cert-v01@openssh.com"), "is not an Ed25519"),
        "two": (line + b"\n" + line, "holds 2 keys"),
        "two PEM": (pem(ours, False) * 2, "holds 2 keys"),
        "empty": (b"", "is not an Ed25519 public key"),
        "binary": (bytes(range(256)), "holds|is not an Ed25519"),
        "no base64": (b"ssh-ed25519 ####", "cannot be read"),
        "cut off": (pem(ours, False)[:60], "cannot be read"),
        "large": (bytes(100_000), "at most 64,000 are read"),
    }


@pytest.mark.parametrize("name", other_keys())
def test_a_key_that_is_none_is_told_in_one_line(tmp_path: Path, name: str) -> None:
    data, words = other_keys()[name]
    (tmp_path / "key").write_bytes(data)
    with pytest.raises(BadInput, match=words) as error:
        read_public_key(tmp_path / "key")
    assert "\n" not in str(error.value)


def test_a_key_that_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path, words in ((tmp_path / "none", "No such file"), (tmp_path, "directory"), (tmp_path / "fifo", "a FIFO")):
        with pytest.raises(BadInput, match=f"Cannot read the key .*{words}"):
            read_public_key(path)


def test_without_the_package_it_says_what_to_install(tmp_path: Path, monkeypatch, private) -> None:
    path = write_public(tmp_path / "key", private)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(MissingExtra, match=r"pip install '\.\[sign\]'"):
        read_public_key(path)
