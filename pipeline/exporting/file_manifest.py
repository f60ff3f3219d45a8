"""What every exported file says of itself: the manifest that it carries."""

from __future__ import annotations

import contextlib
import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from calibration.ranges import Ranges
from edge_apps import __version__
from edge_apps.runtime.manifest import FORMAT, FileManifest, OutputKind, Provenance
from edge_apps.runtime.precisions import Precision
from pipeline.checkpoints.checkpoint import Checkpoint

TOOLS = ("torch", "torchao", "executorch", "coremltools", "litert-torch", "ai-edge-quantizer")


@dataclass(frozen=True)
class Companions:
    """What every file of an export records of the others: the names of all models, the hashes of what proves them.

    Whoever exchanges or removes one of them in the bundle would have to edit every file.
    """

    names: tuple[str, ...]
    evidence: Mapping[str, str]

    def evidence_of(self, ranges: Ranges | None) -> dict[str, str]:
        """Return what proves a file: without ranges, nothing that came of calibration."""
        return {role: sha256 for role, sha256 in self.evidence.items() if ranges is not None or role in FLOAT_EVIDENCE}


FLOAT_EVIDENCE = ("checkpoint", "float-program")


def file_manifest(
    checkpoint: Checkpoint,
    target: str,
    precision: Precision,
    ranges: Ranges | None,
    output: OutputKind,
    companions: Companions | None = None,
) -> FileManifest:
    """Return what a file says of itself.

    ``ranges`` are those it was quantized with, ``output`` is what its answers are, ``companions`` is the rest
    of the export.
    """
    return FileManifest(
        format=FORMAT,
        model=checkpoint.spec.name,
        options=dict(checkpoint.options),
        target=target,
        precision=precision,
        labels=checkpoint.labels,
        preprocess=checkpoint.preprocess,
        provenance=Provenance(
            checkpoint_sha256=checkpoint.sha256,
            ranges_sha256=None if ranges is None else ranges.sha256(),
            evidence={} if companions is None else companions.evidence_of(ranges),
            tools={"edge-pipeline": __version__, **_versions(TOOLS)},
        ),
        output=output,
        exported=() if companions is None else companions.names,
    )


def _versions(packages: Sequence[str]) -> dict[str, str]:
    """Of those that are installed: one target can be exported without the others' packages."""
    found = {}
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found
