"""``pipeline bundle``: list what is in a bundle, sign it, verify it, make a key."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_apps.console import echo_json, results
from edge_apps.json_text import indented

if TYPE_CHECKING:
    from edge_apps.runtime.manifest import Bundle

A_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("bundle", short_help="List, sign or verify a bundle.")
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@click.option(
    "--sign",
    metavar="KEY",
    type=A_FILE,
    help="Sign the bundle with this private key (Ed25519; PEM or OpenSSH), after checking every listed file.",
)
@click.option(
    "--verify",
    metavar="PUBLIC-KEY",
    type=A_FILE,
    help="Verify the signature with this public key, and every listed file.",
)
@click.option(
    "--new-key",
    metavar="FILE",
    type=A_FILE,
    help="Make a key pair: the private key FILE, which only you can read, and FILE.pub.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def command(bundle: Path | None, sign: Path | None, verify: Path | None, new_key: Path | None, as_json: bool) -> None:
    """List the files of a BUNDLE with their hashes, and say whether it is signed.

    The signature is Ed25519 over manifest.json, which has the sha256 of every file. It is stored beside it as
    manifest.json.sig. See docs/signing.md. Exit status 2: the bundle does not verify.
    """
    from edge_apps.runtime.manifest import load_bundle
    from edge_apps.runtime.signature import read_public_key
    from pipeline.bundles.signing import sign_bundle, verify_bundle
    from pipeline.errors import BadInput

    asked = [name for name, value in (("--sign", sign), ("--verify", verify), ("--new-key", new_key)) if value]
    if len(asked) > 1:
        raise BadInput(f"{' and '.join(asked)} are different tasks: give one of them.")
    if new_key is not None:
        if bundle is not None:
            raise BadInput(f"--new-key takes no bundle: leave '{bundle}' out, and sign with the key afterwards.")
        _make_key(new_key, as_json)
        return
    if bundle is None:
        raise BadInput("Name a bundle, or give --new-key FILE.")
    if sign is not None:
        opened, key = sign_bundle(bundle, sign, lambda: _password(sign))
        _tell(opened, f"Signed '{bundle}' with", key.fingerprint, as_json)
    elif verify is not None:
        key = read_public_key(verify)
        _tell(verify_bundle(bundle, key), f"Verified '{bundle}': signed with", key.fingerprint, as_json)
    else:
        _list(load_bundle(bundle), as_json)


def _make_key(path: Path, as_json: bool) -> None:
    from pipeline.bundles.signing import new_key, public_half

    key = new_key(path)
    if as_json:
        _print_json({"private": str(path), "public": str(public_half(path)), "key": key.fingerprint})
        return
    line = f"Wrote the private key '{path}', to be kept secret, and its public key '{public_half(path)}'"
    results().print(f"{line}. Key {key.fingerprint}.", markup=False, soft_wrap=True)


def _tell(bundle: Bundle, done: str, fingerprint: str, as_json: bool) -> None:
    files = len(bundle.manifest.files)
    if as_json:
        _print_json({"bundle": str(bundle.root), "verified": True, "key": fingerprint, "files": files})
        return
    checked = "the one listed file" if files == 1 else f"all {files} listed files"
    results().print(f"{done} the key {fingerprint}; {checked} as recorded.", markup=False, soft_wrap=True)


def _list(bundle: Bundle, as_json: bool) -> None:
    from edge_apps.console import table
    from edge_apps.runtime.manifest import MANIFEST
    from edge_apps.runtime.signature import is_signed, signature_of

    signed = is_signed(bundle.root / MANIFEST)
    if as_json:
        files = [
            {"path": file.path, "role": file.role, "bytes": file.bytes, "sha256": file.sha256}
            for file in bundle.manifest.files
        ]
        _print_json({"bundle": str(bundle.root), "signed": signed, "files": files})
        return
    shown = table()
    shown.add_column("file", overflow="fold")
    shown.add_column("role")
    shown.add_column("bytes", justify="right")
    shown.add_column("sha256, as listed")
    for file in bundle.manifest.files:
        shown.add_row(file.path, file.role, f"{file.bytes:,}", f"{file.sha256[:16]}…")
    out = results()
    out.print(shown, markup=False)
    place = signature_of(Path(MANIFEST))
    said = f"Signed ({place}); not verified: give --verify PUBLIC-KEY." if signed else f"Not signed (no {place})."
    out.print(said, markup=False, soft_wrap=True)


def _password(key: Path) -> str:
    """Ask on the terminal for the password of an encrypted key."""
    from pipeline.errors import BadInput

    if not sys.stdin.isatty():
        raise BadInput(
            f"The key '{key}' is encrypted, and its password can only be asked for in a terminal: run this in one, or "
            "give a key that is not encrypted."
        )
    answer: str = click.prompt(f"Password of '{key}'", hide_input=True, err=True)
    return answer


def _print_json(document: dict[str, object]) -> None:

    echo_json(indented(document))
