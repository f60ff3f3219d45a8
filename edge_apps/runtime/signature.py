"""Signatures of bundles: Ed25519 (RFC 8032) over the exact bytes of ``manifest.json``, which has every file's sha256.

``manifest.json.sig`` beside it holds the 64 bytes of the signature and nothing else, as ``openssl pkeyutl -sign
-rawin`` writes them. A device only verifies; ``pipeline.bundles.signing`` signs. Both leave the cryptography to
the package ``cryptography``.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_apps.errors import BadInput, MissingExtra, Untrusted, first_line, install
from edge_apps.untrusted import read_regular

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

SUFFIX = ".sig"

BYTES = 64
"""Of an Ed25519 signature."""

LARGEST_KEY = 64_000
"""Bytes of a key's file. The largest keys of any algorithm in use take a few thousand."""

OPENSSH = "ssh-ed25519"
"""The first word of an Ed25519 public key as ssh-keygen writes it."""


@dataclass(frozen=True)
class PublicKey:
    """An Ed25519 public key and the file that it was read from."""

    path: Path
    fingerprint: str
    """As ``ssh-keygen -lf`` shows it: ``SHA256:`` and base64."""
    key: Ed25519PublicKey = field(repr=False, compare=False)

    def check(self, signed: Path, data: bytes) -> None:
        """Verify the signature beside the file ``signed``, of which ``data`` are the bytes that were read.

        Raises:
            Untrusted: there is no signature, it is damaged, or it is not of these bytes and this key.
        """
        from cryptography.exceptions import InvalidSignature

        signature = _read_signature(signed)
        try:
            self.key.verify(signature, data)
        except InvalidSignature:
            raise Untrusted(
                f"The signature of '{signed}' does not verify with the key '{self.path}' ({self.fingerprint}): it was "
                "made with another key, or the signature or the signed file was changed since. Nothing of the bundle "
                "is used. Give the signer's key, or get the bundle again."
            ) from None


def signature_of(signed: Path) -> Path:
    """Where the signature of a file lies."""
    return signed.with_name(signed.name + SUFFIX)


def is_signed(signed: Path) -> bool:
    """Whether anything lies where the signature of a file would: says nothing about its worth."""
    place = signature_of(signed)
    return place.is_symlink() or place.exists()


def read_public_key(path: Path) -> PublicKey:
    """Read a public key: PEM (SubjectPublicKeyInfo), or a line of ``ssh-ed25519`` as in ``id_ed25519.pub``.

    Raises:
        BadInput: no such file, a private key, one of another algorithm, several keys. MissingExtra: no cryptography.
    """
    check_installed()
    data = read_key(path)
    if b"PRIVATE KEY-----" in data:
        raise BadInput(
            f"'{path}' is a private key; a public key is needed here. Keep the private one to yourself, and make its "
            f"public half: openssl pkey -in {path} -pubout (of an OpenSSH key: ssh-keygen -y -f {path})."
        )
    key = _loaded(path, data)
    return fingerprinted(path, key)


def trusted_key(path: Path | None) -> PublicKey | None:
    """The key that ``--trust`` names; None where the option is not given."""
    return None if path is None else read_public_key(path)


def fingerprinted(path: Path, key: Ed25519PublicKey) -> PublicKey:
    """A key with its fingerprint: the SHA-256 of the key in OpenSSH's encoding."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    encoded = key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).split()[1]
    digest = hashlib.sha256(base64.b64decode(encoded)).digest()
    return PublicKey(path, f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}", key)


def check_installed() -> None:
    """``MissingExtra`` where the package that signs and verifies is not installed."""
    try:
        import cryptography  # noqa: F401
    except ImportError as error:
        raise MissingExtra(f"Signatures need cryptography, which is not installed: {install('sign')}.") from error


def read_key(path: Path) -> bytes:
    """The bytes of a key's file, which holds one key.

    Raises:
        BadInput: it cannot be read, or holds several keys.
    """
    try:
        data = read_regular(path, LARGEST_KEY)
    except OSError as error:
        raise BadInput(f"Cannot read the key '{path}': {error.strerror}.") from error
    keys = data.count(b"-----BEGIN ") or sum(1 for line in data.splitlines() if line.strip())
    if keys > 1:
        raise BadInput(f"'{path}' holds {keys} keys or certificates; a file with a single key is needed.")
    return data


def check_algorithm(path: Path, key: object, kind: type) -> None:
    """``BadInput`` for a key of another algorithm than Ed25519."""
    if not isinstance(key, kind):
        name = type(key).__name__.lstrip("_").removesuffix("PublicKey").removesuffix("PrivateKey")
        raise BadInput(f"'{path}' is a key for {name}; bundles are signed with Ed25519 keys. {NEW_KEY}")


NEW_KEY = "'pipeline bundle' makes one with `new_key`."


def _loaded(path: Path, data: bytes) -> Ed25519PublicKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key, load_ssh_public_key

    first = (data.split(maxsplit=1) or [b""])[0]
    is_pem = b"-----BEGIN PUBLIC KEY-----" in data
    if not is_pem and first != OPENSSH.encode():
        raise BadInput(
            f"'{path}' is not an Ed25519 public key: neither PEM (-----BEGIN PUBLIC KEY-----) nor OpenSSH "
            f"({OPENSSH} …). {NEW_KEY}"
        )
    key: Any
    try:
        key = load_pem_public_key(data) if is_pem else load_ssh_public_key(data.strip())
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BadInput(f"The public key '{path}' cannot be read: {first_line(error)}.") from error
    check_algorithm(path, key, Ed25519PublicKey)
    read: Ed25519PublicKey = key
    return read


def _read_signature(signed: Path) -> bytes:
    place, folder = signature_of(signed), signed.parent
    again = "Sign the bundle again, or get it again."
    if place.is_symlink():
        raise Untrusted(f"The signature '{place}' is a link; a file is needed. {again}")
    try:
        signature = read_regular(place, LARGEST_KEY)
    except FileNotFoundError:
        raise Untrusted(
            f"'{folder}' is not signed (it has no '{place.name}'), and only signed bundles are trusted. "
            f"'pipeline bundle {folder}' signs it with a key as `sign`."
        ) from None
    except OSError as error:
        raise Untrusted(f"Cannot read the signature '{place}': {error.strerror}. {again}") from error
    if len(signature) != BYTES:
        raise Untrusted(f"The signature '{place}' has {len(signature)} bytes instead of {BYTES}: damaged. {again}")
    return signature
