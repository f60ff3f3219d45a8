"""What is measured of one bundle, and how it is written down."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec

from edge_apps import __version__
from edge_apps.runtime.device import Device, this_device
from edge_apps.runtime.manifest import Bundle, BundleFile, Delegated, FileComparison, with_empty, without_empty
from edge_apps.runtime.precisions import Precision
from edge_apps.untrusted import MB, convert, parse_json, read_regular
from pipeline.benchmarking.latency import measure
from pipeline.errors import BadInput, MissingExtra, NotRunHere

LARGEST = MB
"""Bytes of a measurement; one file takes 500."""


class FileMeasurement(msgspec.Struct, frozen=True, kw_only=True):
    """One file. ``p50_ms`` is the median of ``runs`` single inferences; None where the file was not run, and why.

    comparison is the export's verdict: how near its logits are to the float network's and to its own quantized
    graph's, in dB and agreement, and a word. delegated is what the bundle's manifest says of the delegate.
    """

    target: str
    precision: Precision
    bytes: int
    comparison: FileComparison = FileComparison()
    delegated: Delegated | None = None
    p50_ms: float | None = None
    runs: int = 0


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """One model at one input size, all its files measured in one run on one machine.

    data is what an untrained model was calibrated on; None for a bundle that was there before.
    """

    model: str
    options: dict[str, Any]
    input: int
    classes: int
    params: int | None
    mult_adds: int | None
    data: str | None
    files: tuple[FileMeasurement, ...]
    threads: int
    device: Device
    version: str
    seconds: float


def measure_bundle(
    bundle: Bundle, *, threads: int, seconds: float, data: str | None = None, began: float | None = None
) -> Measurement:
    """Latency of every file that runs here, beside what the manifest says of them; every file verified by hash."""
    start = time.monotonic() if began is None else began
    about = bundle.manifest
    params, mult_adds = _counted(bundle)
    runnable = {file.path: bundle.read(file) for file in bundle.models() if file.comparison.status == "run"}
    try:
        times = dict(zip(runnable, measure(list(runnable.values()), threads=threads, seconds=seconds), strict=True))
    except (NotRunHere, MissingExtra) as error:
        raise MissingExtra(f"{error} The bundle was exported where that was there.") from error
    files = []
    for file in bundle.models():
        taken = times.get(file.path)
        files.append(_file(file, None if taken is None else taken.p50, 0 if taken is None else taken.n))
    return Measurement(
        model=about.model,
        options=about.options,
        input=about.preprocess.height,
        classes=len(about.labels),
        params=params,
        mult_adds=mult_adds,
        data=data,
        files=tuple(files),
        threads=threads,
        device=this_device(),
        version=__version__,
        seconds=round(time.monotonic() - start, 1),
    )


def _file(file: BundleFile, p50: float | None, runs: int) -> FileMeasurement:
    assert file.target is not None
    assert file.precision is not None
    return FileMeasurement(
        target=file.target,
        precision=file.precision,
        bytes=file.bytes,
        comparison=file.comparison,
        delegated=file.delegated,
        p50_ms=p50,
        runs=runs,
    )


def _counted(bundle: Bundle) -> tuple[int | None, int | None]:
    """Parameters and mult-adds of a network of the zoo; of others only their builder would know."""
    import torch

    from pipeline import zoo
    from pipeline.zoo.complexity.count import count

    about = bundle.manifest
    if about.model not in zoo.specs():
        return None, None
    with torch.device("meta"):
        network = zoo.get(about.model).build(len(about.labels), **about.options)
    cost = count(network, about.preprocess.height, about.preprocess.width)
    return cost.params, cost.mult_adds


def load_measurement(path: Path) -> Measurement:
    """Read what ``pipeline benchmark --out`` wrote; ``BadInput`` where it is none."""
    try:
        return of_document(parse_json(read_regular(path, LARGEST), dict[str, Any]))
    except OSError as error:
        raise BadInput(f"Cannot read '{path}': {error.strerror}.") from error
    except ValueError as error:
        raise BadInput(f"'{path}' is no benchmark ({error}): remove it, or choose another `out`.") from error


def to_document(measured: Measurement) -> dict[str, Any]:
    """Return a measurement as it is written: ``{}`` where a file has no delegate."""
    return with_empty(msgspec.to_builtins(measured))


def of_document(document: dict[str, Any]) -> Measurement:
    """Return the measurement that ``to_document`` wrote; ``ValueError`` where it is none."""
    return convert(without_empty(document), Measurement)
