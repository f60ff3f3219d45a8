"""What a file says of itself, and what a bundle says of its files: schema, hashes, load and verify.

Two manifests. ``FileManifest`` travels inside every exported file, so that one file alone is enough on a device.
``BundleManifest`` is ``manifest.json`` beside the files; it records each file's sha256 and what was measured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeVar

import msgspec

from edge_apps.errors import BadInput, BadManifest, ChangedFile
from edge_apps.runtime.content import Content
from edge_apps.runtime.precisions import Precision
from edge_apps.runtime.preprocess import Preprocess
from edge_apps.runtime.search_record import SearchRecord
from edge_apps.runtime.signature import PublicKey
from edge_apps.untrusted import LARGEST_TEXT, convert, parse_json, read_regular

FORMAT = 1
"""Version of both schemas; a reader refuses a newer one."""

EMBEDDED_NAME = "edge_manifest"
"""The constant method of a .pte; .tflite and .mlpackage keep the same JSON under ``METADATA_NAME``."""

METADATA_NAME = "edge_pipeline"

MANIFEST = "manifest.json"

T = TypeVar("T")

OutputKind = Literal["logits", "probabilities", "independent-probabilities"]
"""What a network answers for each class: a logit, which softmax makes a probability; a probability, of which all sum to
1 (the network ends in softmax); or a probability that does not depend on the other classes' (it ends in sigmoid)."""

OUTPUTS: dict[OutputKind, str] = {
    "logits": "logits",
    "probabilities": "probabilities",
    "independent-probabilities": "probabilities",
}
"""How an ``.mlpackage`` calls the array of them."""


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """Where a file comes from: hashes of what made it, and the versions of the tools.

    checkpoint_sha256 is of the file that the user gave. evidence has, by role, the hashes of the files in the bundle
    that prove this one: its checkpoint and float program, and of an int8 file all that came of calibration. It is
    empty in older files.
    """

    checkpoint_sha256: str
    ranges_sha256: str | None = None
    evidence: dict[str, str] = {}
    tools: dict[str, str] = {}


class FileManifest(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON inside every exported file: all that a device must know.

    ``output`` is what the numbers are that the file answers with. Files written before the key existed have logits.
    ``exported`` names every model file that one export wrote together, this one included; empty in older files.
    """

    format: int
    model: str
    options: dict[str, Any]
    target: str
    precision: Precision
    labels: tuple[str, ...]
    preprocess: Preprocess
    provenance: Provenance
    output: OutputKind = "logits"
    exported: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_labels(self.labels)


JudgedOn = Literal["held-out", "calibration", "noise"]
"""Which images a file was judged on: ones that calibrated nothing, the calibration images, or no images but noise."""

Word = Literal["good", "check", "bad"]
"""A file's verdict: as exact as its arithmetic allows; worth a look before it is used; not its network."""


class FileComparison(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a file answered on some images, against the networks that it should compute.

    ``status`` says whether the file was run, and ``reason`` why not; what is no model has no comparison. SQNR is in dB,
    of logits with the per-class mean removed; agreement is the share of the images that both put into the same class.
    ``float`` is the float network; ``graph`` is what the file was lowered from: the quantized graph of an int8 file,
    simulated, and the float network with rounded weights of an int8-weights file. ``word`` is the verdict and
    ``findings`` say why it is not "good";
    ``departs_at`` names the first operator where a bad file departs. ``collapsed``: the network's answer hardly depends
    on the image, so that decibels mean nothing. ``allowed``: the file is bad and was kept because the user asked.
    """

    status: Literal["run", "not run", "no model"] = "no model"
    reason: str = ""
    runtime: str | None = None
    judged_on: JudgedOn | None = None
    images: int = 0
    enough_images: bool = False
    sqnr_float_db: float | None = None
    agreement_float: float | None = None
    sqnr_graph_db: float | None = None
    agreement_graph: float | None = None
    collapsed: bool = False
    word: Word | None = None
    findings: tuple[str, ...] = ()
    departs_at: str | None = None
    allowed: bool = False


class Delegated(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a file its delegate takes.

    partitions: in how many pieces. share: of the mult-adds, 0 to 1. outside: operators by type that the delegate does
    not compute. left_out: those of them that were meant for it.
    """

    partitions: int
    share: float
    outside: dict[str, int]
    left_out: dict[str, int]


class BundleFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a bundle. A ``model`` can be run; the others are what proves it.

    float_layers: convolution and linear layers of an int8 file that stay in float, by module path. float_operators:
    everything else in it that computes in float between int8 tensors, as ``module path:operator``. delegated: None
    where the format has no delegate on the machine that exported it.
    """

    path: str
    role: Literal[
        "model",
        "checkpoint",
        "float-program",
        "repairs",
        "ranges",
        "recipe",
        "calibration-set",
        "evaluation",
    ]
    sha256: str
    bytes: int
    target: str | None = None
    precision: Precision | None = None
    float_layers: tuple[str, ...] = ()
    float_operators: tuple[str, ...] = ()
    operators: dict[str, int] = {}
    delegated: Delegated | None = None
    comparison: FileComparison = FileComparison()


class BundleManifest(msgspec.Struct, frozen=True, kw_only=True):
    """``manifest.json``: the model, how it was made, and every file with its hash.

    output: what the numbers are that every file answers with, as in ``FileManifest``.
    observers names, for every tensor of the int8 files, the observer that chose its range; the keys are those of the
    bundle's ranges. search: how it was found which layers stay in float, and what that costs; None where nobody
    searched. findings: what export says of the network itself, a sentence each. exported: the paths of the models that
    the export wrote, as each of them records it; empty in older bundles.
    """

    format: int
    model: str
    options: dict[str, Any]
    labels: tuple[str, ...]
    preprocess: Preprocess
    provenance: Provenance
    created: str
    files: tuple[BundleFile, ...]
    output: OutputKind = "logits"
    observers: dict[str, str] = {}
    search: SearchRecord | None = None
    findings: tuple[str, ...] = ()
    exported: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_labels(self.labels)
        check_listing(self.files, self.exported, self.provenance)


@dataclass(frozen=True)
class Bundle:
    """A directory with a manifest."""

    root: Path
    manifest: BundleManifest

    def models(self) -> tuple[BundleFile, ...]:
        """The files that a runtime can run."""
        return tuple(file for file in self.manifest.files if file.role == "model")

    def file(self, role: str) -> BundleFile:
        """The one file with this role; raises ``BadManifest`` where there is none."""
        for file in self.manifest.files:
            if file.role == role:
                return file
        raise BadManifest(f"Bundle '{self.root}' lists no {role}; export it again.")

    def read(self, file: BundleFile) -> Content:
        """Read a file, and return its content only if the bytes are those that were recorded.

        Raises:
            ChangedFile: it is missing, is not a file in this bundle, or has other bytes.
        """
        path = self.root / file.path
        if not path.exists():
            raise ChangedFile(f"'{path}' is listed in the bundle's manifest but is missing; export again.")
        if not path.resolve().is_relative_to(self.root.resolve()):
            raise ChangedFile(f"'{path}' is a link that leads out of the bundle: it will not be read. Export again.")
        try:
            content = Content.read(path)
        except BadInput as error:
            raise ChangedFile(f"{error} Restore the file, or export again.") from error
        if content.sha256 != file.sha256:
            raise ChangedFile(
                f"'{path}' was changed after export (sha256 {content.sha256[:12]}…, the manifest says "
                f"{file.sha256[:12]}…): it will not be run. Export again, or restore the file."
            )
        if content.size != file.bytes:
            raise ChangedFile(
                f"'{path}' has {content.size:,} bytes, and the manifest says {file.bytes:,}: the manifest was changed "
                "after export. Export again."
            )
        return content


def load_bundle(root: Path, trust: PublicKey | None = None) -> Bundle:
    """Read a bundle's manifest; with ``trust`` only one whose bytes that key has signed.

    Raises:
        BadInput: not a bundle. BadManifest: a manifest that does not say what it must, or paths outside the bundle.
        Untrusted: it is not signed by ``trust``.
    """
    path = root / MANIFEST
    if not path.exists():
        raise BadInput(f"'{root}' is not a bundle: it has no {MANIFEST}. Make one with 'pipeline export'.")
    try:
        text = read_regular(path, LARGEST_TEXT)
    except OSError as error:
        raise BadInput(f"Cannot read '{path}': {error.strerror}.") from error
    if trust is not None:
        trust.check(path, text)
    return parse_bundle(root, text)


def parse_bundle(root: Path, text: bytes) -> Bundle:
    """Make a bundle of the bytes of its manifest; ``BadManifest`` as ``load_bundle``."""
    return Bundle(root, _read(text, BundleManifest, str(root / MANIFEST)))


def parse_file_manifest(text: str | bytes, path: Path) -> FileManifest:
    """Read the JSON that a file carries; raises ``BadManifest`` naming the file."""
    return _read(text.encode() if isinstance(text, str) else text, FileManifest, str(path))


def no_file_manifest(path: Path) -> BadManifest:
    """The error for a file that carries no manifest."""
    return BadManifest(
        f"'{path}' does not describe itself (no {METADATA_NAME} metadata): only files written by "
        "'pipeline export' carry their labels and preprocessing. Export it again."
    )


def to_json(value: msgspec.Struct) -> str:
    """Return a manifest as JSON text."""
    return msgspec.json.encode(with_empty(msgspec.to_builtins(value))).decode()


EMPTY = ("delegated", "search")
"""Records that may be missing. Format 1 writes ``{}`` for them, not ``null``."""


def without_empty(document: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest or a file of one without its empty records, and so its files."""
    kept = {key: value for key, value in document.items() if not (key in EMPTY and value == {})}
    if isinstance(kept.get("files"), list):
        kept["files"] = [without_empty(file) if isinstance(file, dict) else file for file in kept["files"]]
    return kept


def with_empty(document: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest or a file of one with ``{}`` where it has no record, and so its files."""
    kept = {key: {} if key in EMPTY and value is None else value for key, value in document.items()}
    if "files" in kept:
        kept["files"] = [with_empty(file) for file in kept["files"]]
    return kept


ONCE = ("checkpoint", "float-program", "repairs", "ranges", "recipe", "calibration-set", "evaluation")
"""Roles of which a bundle has one file at most."""


def check_listing(files: Sequence[BundleFile], exported: Sequence[str], provenance: Provenance) -> None:
    """Refuse a list of files that contradicts itself; ``ValueError``.

    Each path lies in the bundle and stands once, as does each kind of model and everything that proves them; the
    proofs are those that the export wrote, ranges those that the files were quantized with; and every model that the
    export wrote is listed.
    """
    for file in files:
        path = PurePosixPath(file.path)
        if not path.parts or path.is_absolute() or ".." in path.parts or path.as_posix() != file.path:
            raise ValueError(f"it lists '{file.path}', which is not the plain path of a file inside the bundle")
    models = [file for file in files if file.role == "model"]
    for model in models:
        if model.target is None or model.precision is None:
            raise ValueError(f"it lists '{model.path}' without its target or precision")
    _check_once("path", [file.path for file in files])
    _check_once("kind of model", [f"{model.target} {model.precision}" for model in models])
    _check_once("role", [file.role for file in files if file.role in ONCE])
    proofs: dict[str, str] = {file.role: file.sha256 for file in files if file.role in ONCE}
    if proofs.get("ranges") != provenance.ranges_sha256:
        raise ValueError("the ranges that it lists are not those that its files were quantized with")
    for role, sha256 in provenance.evidence.items():
        if proofs.get(role) != sha256:
            raise ValueError(f"what it lists as {role} was not exported with its files")
    missing = sorted({*exported} - {model.path for model in models})
    if missing:
        raise ValueError(f"it does not list '{missing[0]}', which was exported with the others")


def _check_once(what: str, values: Sequence[str]) -> None:
    for value, count in Counter(values).items():
        if count > 1:
            raise ValueError(f"it lists the {what} '{value}' {count} times")


def _check_labels(labels: tuple[str, ...]) -> None:
    if not labels:
        raise ValueError("labels is empty; a classifier has at least one")


class _Version(msgspec.Struct):
    """What a manifest of any format has; the rest is passed over."""

    format: int


def _read(data: bytes, kind: type[T], where: str) -> T:
    try:
        if len(data) > LARGEST_TEXT:
            raise ValueError(f"it has {len(data):,} bytes, and at most {LARGEST_TEXT:,} are read")
        version = parse_json(data, _Version).format
        if version > FORMAT:
            raise BadManifest(
                f"Manifest in '{where}' has format {version}; this version reads up to {FORMAT}: upgrade edge-pipeline."
            )
        if version < 1:
            raise BadManifest(f"Manifest in '{where}' has format {version}; the first one is 1. Export the file again.")
        return convert(without_empty(parse_json(data, dict[str, Any])), kind)
    except ValueError as error:
        raise BadManifest(f"Manifest in '{where}' cannot be read: {error}. Export the file again.") from error
