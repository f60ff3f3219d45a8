"""Reads the model files that users name: held to the bundle that they lie in, otherwise tried out first."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from edge_apps.errors import BadInput, BadManifest, ChangedFile, Untrusted
from edge_apps.runtime.content import Content
from edge_apps.runtime.manifest import MANIFEST, Bundle, BundleFile, BundleManifest, FileManifest, load_bundle
from edge_apps.runtime.registry import check_suffix, needs_trial
from edge_apps.runtime.signature import PublicKey
from edge_apps.runtime.trial import try_out

RECORDED = {
    "model": "another model",
    "options": "other options of the model",
    "labels": "other labels",
    "preprocess": "another preprocessing",
    "output": "another kind of output",
}
"""What both a file and its bundle's manifest record."""


@dataclass(frozen=True)
class ModelFile:
    """A model file that can be opened without harm, and the bundle that vouches for it, if it lies in one."""

    content: Content
    bundle: Bundle | None = None
    listed: BundleFile | None = None

    @classmethod
    def in_bundle(cls, bundle: Bundle, listed: BundleFile) -> ModelFile:
        """Read a file of a bundle. Raises what ``Bundle.read`` raises."""
        return cls(bundle.read(listed), bundle, listed)

    def check(self, about: FileManifest) -> None:
        """Refuse a file that says other of itself than its bundle does; ``BadManifest``."""
        if self.bundle is not None and self.listed is not None:
            fault = contradiction(self.bundle.manifest, self.listed, about)
            if fault:
                raise BadManifest(f"'{self.content.path}' is not run. {fault}")


def read_model(path: Path, trust: PublicKey | None = None, *, xnnpack: bool = True) -> ModelFile:
    """Read a model file that a user names, and see to it that it can be opened.

    A file in a bundle has the bytes that the bundle's manifest records; a link from outside to such a file names it. A
    file that stands alone was loaded and run once in another process, on the kernels that ``xnnpack`` says. With
    ``trust`` it must lie in a bundle that this key signed.

    Raises:
        BadInput: no such file, or one for which there is no runtime; one that crashes it. Untrusted: no bundle that
            ``trust`` signed vouches for it. ChangedFile: the bytes are not those that the bundle records, or it does
            not list the file. BadManifest: the manifest beside the file cannot be read.
    """
    path = _where_it_lies(path)
    check_suffix(path)
    bundle = bundle_around(path, trust)
    if bundle is not None:
        return ModelFile.in_bundle(bundle, _listed(bundle, path))
    content = Content.read(path)
    if needs_trial(path.suffix):
        try_out(content, xnnpack=xnnpack)
    return ModelFile(content)


def bundle_around(path: Path, trust: PublicKey | None = None) -> Bundle | None:
    """Return the bundle that a file lies in, to whose manifest it is held; None for a file that stands alone.

    Only a file with no manifest beside it stands alone: a damaged manifest must not turn the check off. With ``trust``
    there must be a bundle, and it must be signed by that key.

    Raises:
        BadManifest: what lies beside it as ``manifest.json`` is not the manifest of a bundle. Untrusted: ``trust`` did
            not sign it, or there is none.
    """
    if not _has_manifest(path):
        if trust is not None:
            raise Untrusted(
                f"'{path}' stands alone (there is no {MANIFEST} beside it), and only files of a signed bundle are "
                "trusted. Name the bundle, or the file where it lies in it."
            )
        return None
    try:
        return load_bundle(path.parent, trust)
    except Untrusted:
        raise
    except BadInput as error:
        raise BadManifest(
            f"'{path}' is not run, because its bundle cannot be checked: {error} If the file is to stand alone, move "
            "it out of that folder."
        ) from error


def contradiction(bundle: BundleManifest, listed: BundleFile, about: FileManifest) -> str | None:
    """Return in what a file says other of itself than its bundle's manifest says, as a sentence; None where it agrees.

    The hashes in a manifest can be made to fit another file; what that file carries inside cannot, without exporting
    it anew.
    """
    kind, own = f"{listed.target} {listed.precision}", f"{about.target} {about.precision}"
    if own != kind:
        return f"It says that it is {own}; the manifest lists {kind}. Export it again."
    if about.provenance.checkpoint_sha256 != bundle.provenance.checkpoint_sha256:
        return "It was made of another checkpoint than the manifest says. Export it again."
    quantized = about.provenance.ranges_sha256
    if quantized is not None and quantized != bundle.provenance.ranges_sha256:
        return "It was quantized with other ranges than the manifest says. Export it again."
    for role, sha256 in about.provenance.evidence.items():
        if bundle.provenance.evidence.get(role) != sha256:
            return f"It was exported with another {role} than the manifest says. Export it again."
    for name, words in RECORDED.items():
        if getattr(about, name) != getattr(bundle, name):
            return f"It records {words} than the manifest. Export it again."
    return None


def vanished(bundle: BundleManifest, about: FileManifest) -> str | None:
    """Return which model was exported together with this file and is no longer listed, as a sentence; None if none."""
    listed = {file.path for file in bundle.files if file.role == "model"}
    missing = [name for name in about.exported if name not in listed]
    if not missing:
        return None
    return f"It was exported together with '{missing[0]}', which the manifest does not list. Export again."


def _where_it_lies(path: Path) -> Path:
    """Return the file of a bundle that a link from outside leads to, or the path itself.

    Otherwise a link, as from ``current.tflite`` to the file of a release, would turn the check off.
    """
    if path.is_symlink() and not _has_manifest(path):
        target = Path(os.path.realpath(path))
        if _has_manifest(target):
            return target
    return path


def _has_manifest(path: Path) -> bool:
    """Whether anything lies beside a file as ``manifest.json``, be it a link that leads nowhere."""
    return os.path.lexists(path.parent / MANIFEST)


def _listed(bundle: Bundle, path: Path) -> BundleFile:
    for file in bundle.models():
        if file.path == path.name:
            return file
    raise ChangedFile(
        f"'{path}' is not listed in the manifest of the bundle it lies in: it will not be run. "
        "Move it out of the bundle, or export again."
    )
