"""Sign and verify bundles, and make keys: what ``pipeline bundle`` does. Private keys are read, and never stored."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_apps.errors import first_line
from edge_apps.files import sync_folder, write_whole
from edge_apps.runtime.manifest import MANIFEST, Bundle, load_bundle, parse_bundle
from edge_apps.runtime.signature import (
    NEW_KEY,
    PublicKey,
    check_algorithm,
    check_installed,
    fingerprinted,
    read_key,
    signature_of,
)
from edge_apps.untrusted import LARGEST_TEXT, read_regular
from pipeline.bundles.cross_references import check_evaluation, check_references
from pipeline.errors import BadInput

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

Ask = Callable[[], str]
"""Asks for the password of a private key; ``BadInput`` where nobody can be asked."""


def sign_bundle(root: Path, key: Path, ask: Ask) -> tuple[Bundle, PublicKey]:
    """Sign the manifest of a bundle whose files are all there as listed; an earlier signature is replaced.

    Raises:
        BadInput: no bundle, no usable private key, or a place that cannot be written. ChangedFile: a file is missing or
            is not the one listed. BadManifest: the manifest does not say what it must.
    """
    private = read_private_key(key, ask)
    manifest = root / MANIFEST
    load_bundle(root)  # says what is wrong with a folder that is no bundle
    try:
        data = read_regular(manifest, LARGEST_TEXT)
    except OSError as error:
        raise BadInput(f"Cannot read '{manifest}': {error.strerror}.") from error
    bundle = parse_bundle(root, data)  # of the very bytes that are signed
    check_contents(bundle)
    write_whole(signature_of(manifest), private.sign(data))
    return bundle, fingerprinted(key, private.public_key())


def verify_bundle(root: Path, key: PublicKey) -> Bundle:
    """Verify the signature of a bundle, and that every file that it lists is there with the recorded hash.

    Raises:
        Untrusted: not signed by the key. ChangedFile: a file is missing or is not the one listed. BadInput: no bundle.
    """
    bundle = load_bundle(root, key)
    check_contents(bundle)
    return bundle


def check_contents(bundle: Bundle) -> None:
    """Verify what signing vouches for: every listed file by its hash, and that they belong together."""
    for file in bundle.manifest.files:
        bundle.read(file)
    check_references(bundle)
    check_evaluation(bundle)


def read_private_key(path: Path, ask: Ask) -> Ed25519PrivateKey:
    """Read a private key: PEM (PKCS #8) as openssl makes them, or OpenSSH's own format. ``ask`` gets a password.

    Raises:
        BadInput: no such file, a public key, another algorithm, several keys, or a wrong password. MissingExtra: no
            cryptography.
    """
    check_installed()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    data = read_key(path)
    if b"PRIVATE KEY-----" not in data:
        is_public = b"PUBLIC KEY-----" in data or data.startswith((b"ssh-", b"ecdsa-", b"sk-"))
        kind = "a public key" if is_public else "not a private key (PEM or OpenSSH)"
        raise BadInput(f"'{path}' is {kind}; signing needs the private one. {NEW_KEY}")
    key: Any
    try:
        try:
            key = _load(data, None)
        except TypeError:  # how the package says that the key is encrypted
            password = ask()
            try:
                key = _load(data, password.encode())
            except ValueError:
                raise BadInput(
                    f"The key '{path}' cannot be decrypted: the password is wrong, or it is damaged."
                ) from None
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadInput(f"The private key '{path}' cannot be read: {first_line(error)}.") from error
    check_algorithm(path, key, Ed25519PrivateKey)
    private: Ed25519PrivateKey = key
    return private


def new_key(path: Path) -> PublicKey:
    """Write a new private key, which only its owner can read, and the public one beside it as ``FILE.pub``.

    Raises:
        BadInput: one of them exists, or cannot be written; or the place is a bundle, which is copied to others.
    """
    check_installed()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    if any((folder / MANIFEST).exists() for folder in path.resolve().parents[:2]):  # a bundle has folders of its own
        raise BadInput(
            f"'{path}' lies in a bundle, which is copied to devices: choose another place for a private key."
        )
    private = Ed25519PrivateKey.generate()
    _create(path, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
    public = public_half(path)
    try:
        data = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        _create(public, data, 0o644)
    except BadInput:
        path.unlink()  # without its public half it would be in the way of the next attempt
        raise
    return fingerprinted(public, private.public_key())


def public_half(path: Path) -> Path:
    """Where ``new_key`` writes the public key."""
    return path.with_name(f"{path.name}.pub")


def _load(data: bytes, password: bytes | None) -> Any:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key

    if b"-----BEGIN OPENSSH PRIVATE KEY-----" in data:
        return load_ssh_private_key(data, password)
    return load_pem_private_key(data, password)


def _create(path: Path, data: bytes, mode: int) -> None:
    """Write a file that does not exist yet."""
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        sync_folder(path.parent)
    except FileExistsError:
        raise BadInput(f"'{path}' exists and is not overwritten: name a new file.") from None
    except OSError as error:
        raise BadInput(f"Cannot write '{path}': {error.strerror}. Choose a folder that you can write to.") from error
