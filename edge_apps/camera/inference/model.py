"""Which file of a bundle is run: the one asked for, else the first this machine can run, integers before floats."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from edge_apps.errors import BadInput, BadManifest, MissingExtra, NotRunHere
from edge_apps.runtime.device import usable_cores
from edge_apps.runtime.manifest import Bundle, BundleFile, load_bundle
from edge_apps.runtime.model_file import ModelFile, read_model
from edge_apps.runtime.runner import Runner, known_suffixes, open_runner
from edge_apps.runtime.signature import PublicKey

PRECISIONS = ("int8", "int8-weights", "fp16", "fp32")
"""Fastest first on the boards meant here."""

TARGETS = ("tflite", "executorch", "coreml")
"""Which comes first within a precision: with int8, LiteRT loaded and ran fastest on every network measured."""

MOST_THREADS = 4
"""Without ``--threads``: small networks gain nothing from more, and a Pi or Jetson Nano has four."""


@dataclass(frozen=True)
class Opened:
    """A model ready to run, the hash of its file, how long opening took, and why better files were passed over."""

    runner: Runner
    sha256: str
    load_ms: float
    passed_over: tuple[str, ...]


def open_model(
    path: Path,
    target: str | None,
    precision: str | None,
    threads: int | None,
    *,
    xnnpack: bool = True,
    trust: PublicKey | None = None,
) -> Opened:
    """Open a file, or the best file of a bundle; ``threads`` None takes the cores there are, at most four.

    ``target`` and ``precision`` choose among a bundle's files; a single file must be what they say. Without
    ``xnnpack`` the runtime's own kernels compute. With ``trust`` only files of a bundle that this key signed are
    opened.

    Raises:
        BadInput: no such file or bundle, nothing in it that was asked for, or a runtime with another thread count.
        ChangedFile: the bytes are not those that the bundle recorded. Untrusted: the bundle is not signed by ``trust``,
        or there is none. MissingExtra, NotRunHere: nothing can be run.
    """
    count = threads or min(usable_cores(), MOST_THREADS)
    if not path.exists():
        raise BadInput(f"No such bundle or file: '{path}'.")
    if path.suffix in known_suffixes() or not path.is_dir():  # an .mlpackage is a folder and yet one file
        opened = _open(read_model(path, trust, xnnpack=xnnpack), count, xnnpack, ())
        _check_asked(opened, target, precision)
    else:
        opened = _first_runnable(load_bundle(path, trust), target, precision, count, xnnpack)
    actual = opened.runner.threads
    if threads is not None and actual != threads:
        opened.runner.close()
        raise BadInput(f"{opened.runner.runtime} runs on {actual} threads, not {threads}: leave `threads` out.")
    return opened


def _first_runnable(bundle: Bundle, target: str | None, precision: str | None, threads: int, xnnpack: bool) -> Opened:
    candidates = _asked_for(bundle, target, precision)
    refused: list[MissingExtra | NotRunHere] = []
    passed_over: list[str] = []
    for file in candidates:
        try:
            return _open(ModelFile.in_bundle(bundle, file), threads, xnnpack, tuple(passed_over))
        except (MissingExtra, NotRunHere) as error:
            refused.append(error)
            passed_over.append(f"{file.path}: {error}")
    if len(refused) == 1:
        raise refused[0]
    # A missing package can be helped, so that is the status where it is one of the reasons.
    kind = MissingExtra if any(isinstance(error, MissingExtra) for error in refused) else NotRunHere
    raise kind(f"None of the {len(refused)} files of '{bundle.root}' can be run here. {' '.join(passed_over)}")


def _asked_for(bundle: Bundle, target: str | None, precision: str | None) -> list[BundleFile]:
    models = bundle.models()
    found = [
        file
        for file in models
        if (target is None or _is_target(file, target)) and (precision is None or file.precision == precision)
    ]
    if not found:
        asked = " ".join(word for word in (target, precision) if word)
        have = ", ".join(f"{file.target} {file.precision}" for file in models) or "no model at all"
        raise BadInput(f"'{bundle.root}' has no file for '{asked}'. It has: {have}.")
    return sorted(found, key=lambda file: (_rank(PRECISIONS, file.precision), _rank(TARGETS, file.target)))


def _rank(order: tuple[str, ...], name: str | None) -> int:
    return order.index(name) if name in order else len(order)


def _is_target(file: BundleFile, text: str) -> bool:
    """A target goes by its name, or by the suffix of its files."""
    return text in (file.target, Path(file.path).suffix.removeprefix("."))


def _open(file: ModelFile, threads: int, xnnpack: bool, passed_over: tuple[str, ...]) -> Opened:
    start = time.perf_counter_ns()
    runner = open_runner(file.content, threads, xnnpack=xnnpack)
    load_ms = (time.perf_counter_ns() - start) / 1e6
    try:
        file.check(runner.manifest)
    except BadManifest:
        runner.close()
        raise
    return Opened(runner, file.content.sha256, load_ms, passed_over)


def _check_asked(opened: Opened, target: str | None, precision: str | None) -> None:
    is_target = target in (None, opened.runner.manifest.target, opened.runner.path.suffix.removeprefix("."))
    is_precision = precision in (None, opened.runner.manifest.precision)
    if not (is_target and is_precision):
        manifest = opened.runner.manifest
        opened.runner.close()
        asked = " ".join(word for word in (target, precision) if word)
        raise BadInput(
            f"'{opened.runner.path}' is {manifest.target} {manifest.precision}, not '{asked}': leave that out, or name "
            "a bundle that has it."
        )
