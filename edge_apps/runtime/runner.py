"""One way to run any exported file: ``open_runner(path)`` picks the runtime by suffix.

A runtime is one file beside this one. It calls ``register_runner`` when it is imported and imports its library
only when a file is opened, so that looking for runtimes costs nothing and a missing one says what to install.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

import edge_apps.runtime
from edge_apps.errors import BadInput, BadManifest, ChangedFile, Untrusted
from edge_apps.runtime.manifest import MANIFEST, Bundle, BundleFile, FileManifest, load_bundle
from edge_apps.runtime.signature import PublicKey


class Runner(Protocol):
    """An opened file. Not safe to share between threads: open one for each."""

    @property
    def path(self) -> Path:
        """The file."""

    @property
    def manifest(self) -> FileManifest:
        """What the file says of itself."""

    @property
    def runtime(self) -> str:
        """Library and version, as ``ai-edge-litert 2.3.0``."""

    @property
    def threads(self) -> int:
        """Threads that one inference uses."""

    def run(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return what the network answers, float32 ``[N, K]``, for raw RGB bytes uint8 ``[N, H, W, 3]``.

        Those are logits, and softmax is post-processing, unless ``manifest.output`` says that they are probabilities.
        """

    def close(self) -> None:
        """Give the runtime's memory back."""


RunnerFactory = Callable[[Path, int], Runner]

_factories: dict[str, RunnerFactory] = {}
_without_xnnpack: dict[str, RunnerFactory] = {}
_side_by_side: set[str] = set()
_elsewhere: dict[str, Callable[[], str | None]] = {}


def register_runner(
    suffix: str,
    factory: RunnerFactory,
    *,
    side_by_side: bool = False,
    without_xnnpack: RunnerFactory | None = None,
    elsewhere: Callable[[], str | None] = lambda: None,
) -> None:
    """Say that files with this suffix (``.pte``) are opened by ``factory(path, threads)``.

    ``side_by_side``: several runners of one file gain by working in threads at the same time, because the runtime
    gives the interpreter lock back while it computes. ``without_xnnpack`` opens them for the runtime's own kernels,
    where XNNPACK is a choice of the one who runs a file and not of the one who made it. ``elsewhere`` says why this
    machine cannot run such files at all, if it cannot.
    """
    _factories[suffix] = factory
    _elsewhere[suffix] = elsewhere
    if without_xnnpack is not None:
        _without_xnnpack[suffix] = without_xnnpack
    if side_by_side:
        _side_by_side.add(suffix)


def runs_side_by_side(path: Path) -> bool:
    """Whether to spread many pictures over several one-thread runners of this file, not over one runner's threads."""
    return path.suffix in known_suffixes() and path.suffix in _side_by_side


def runs_elsewhere(suffix: str) -> str | None:
    """Why this machine cannot run files with this suffix, whatever is installed; None where it can."""
    return _elsewhere[suffix]() if suffix in known_suffixes() and suffix in _elsewhere else None


def known_suffixes() -> tuple[str, ...]:
    """Every suffix that has a runtime, installed or not."""
    _discover()
    return tuple(sorted(_factories))


def open_runner(path: Path, threads: int = 1, *, xnnpack: bool = True) -> Runner:
    """Open an exported file for inference on ``threads`` threads; without ``xnnpack`` on the runtime's own kernels.

    Raises:
        BadInput: unknown suffix, missing or foreign file, one that has no other kernels. MissingExtra: the runtime is
            not installed. NotRunHere: this machine cannot run such files at all. BadManifest: the file does not
            describe itself.
    """
    if threads < 1:
        raise BadInput(f"threads is {threads}; at least 1 is needed.")
    if path.suffix not in known_suffixes():
        raise BadInput(f"Cannot run '{path}': no runtime for '{path.suffix}'. Known: {', '.join(known_suffixes())}.")
    if not path.exists():
        raise BadInput(f"No such file: '{path}'.")
    if not xnnpack and path.suffix not in _without_xnnpack:
        raise BadInput(
            f"'{path}' cannot be run without XNNPACK: for {path.suffix} that was decided when it was exported. "
            f"Only {', '.join(sorted(_without_xnnpack))} leaves the choice to whoever runs it."
        )
    try:
        return (_factories if xnnpack else _without_xnnpack)[path.suffix](path, threads)
    except IsADirectoryError:
        raise BadInput(f"'{path}' is a folder; a {path.suffix} model is one file.") from None


def check_batch(batch: NDArray[np.uint8], manifest: FileManifest) -> None:
    """Refuse anything but raw bytes of the size the file takes; a runtime would read them as something else."""
    expected = (manifest.preprocess.height, manifest.preprocess.width, 3)
    if batch.dtype != np.uint8 or batch.ndim != 4 or batch.shape[1:] != expected:
        raise BadInput(
            f"Input is {batch.dtype} {list(batch.shape)}; '{manifest.model}' takes uint8 [N, {str(expected)[1:-1]}]."
        )


def check_outputs(outputs: int, manifest: FileManifest, path: Path) -> None:
    """Refuse a file that computes another number of logits than it has labels."""
    if outputs != len(manifest.labels):
        raise BadManifest(
            f"'{path}' computes {outputs} logits but names {len(manifest.labels)} labels: export it again."
        )


def model_files(path: Path, trust: PublicKey | None = None) -> list[Path]:
    """The files to run behind what a user names: a bundle's models, each verified by hash, or the one file itself.

    With ``trust`` the bundle, also the one that a single file lies in, must be signed by that key (``Untrusted``).
    """
    if path.suffix in known_suffixes():
        bundle = bundle_around(path, trust)
        return [path] if bundle is None else [bundle.verified(_listed(bundle, path))]
    bundle = load_bundle(path, trust)
    return [bundle.verified(file) for file in bundle.models()]


def bundle_around(path: Path, trust: PublicKey | None = None) -> Bundle | None:
    """The bundle that a file lies in, to whose manifest it is held; None for a file that stands alone.

    With ``trust`` there must be one, and it must be signed by that key (``Untrusted``).
    """
    if trust is not None:
        if not (path.parent / MANIFEST).exists():
            raise Untrusted(
                f"'{path}' stands alone (there is no {MANIFEST} beside it), and only files of a signed bundle are "
                "trusted. Name the bundle, or the file where it lies in it."
            )
        return load_bundle(path.parent, trust)
    try:
        return load_bundle(path.parent)
    except BadInput:
        return None  # no manifest beside it, or one of something else


def _listed(bundle: Bundle, path: Path) -> BundleFile:
    for file in bundle.models():
        if file.path == path.name:
            return file
    raise ChangedFile(
        f"'{path}' is not listed in the manifest of the bundle it lies in: it will not be run. "
        "Move it out of the bundle, or export again."
    )


def _discover() -> None:
    for module in pkgutil.iter_modules(edge_apps.runtime.__path__):
        importlib.import_module(f"{edge_apps.runtime.__name__}.{module.name}")
