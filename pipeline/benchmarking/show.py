"""The benchmark as a table: for a terminal, and as Markdown for documents."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from rich.markup import escape

from edge_apps.console import Line, Part, table
from pipeline import zoo
from pipeline.benchmarking.measurement import FileMeasurement, Measurement
from pipeline.metrics.numbers import decibels

HEADINGS = (
    "model", "input", "params M", "mult-adds M", "target", "fp32 MB", "int8 MB", "fp32 dB", "int8 dB", "delegated",
    "parts", "fp32 ms", "int8 ms", "int8 is", "verdict",
)  # fmt: skip
NOTE = (
    "dB: the fp32 file's logits against the float network's, the int8 file's against its own quantized graph's "
    "('equal': to the last bit). Delegated: share of the mult-adds that XNNPACK takes; parts: in how many pieces. "
    "ms: median of single inferences, all files of a model taking turns in one run."
)

VERDICT = "verdict: the export's, with the share of images that the file and the float network put into the same class."


def show(measurements: Sequence[Measurement]) -> Iterator[Part]:
    """Yield one line for every model and target, 80 columns wide."""
    shown = table()
    shown.add_column("\nmodel", overflow="fold")
    shown.add_column("\ntarget", no_wrap=True)
    for column in ("fp32\nMB", "int8\nMB", "fp32\ndB", "int8\ndB", "deleg.\n%", "\nparts", "fp32\nms", "int8\nms"):
        shown.add_column(column, justify="right", no_wrap=True)
    for measurement in measurements:
        for position, cells in enumerate(_rows(measurement)):
            name = f"{label(measurement)} {measurement.input}"
            shown.add_row(escape(name) if position == 0 else "", *cells[:-2])
    yield shown
    for measurement in measurements:
        yield from map(Line, verdicts(measurement))
    yield Line(NOTE, wraps=True)


def markdown(measurements: Sequence[Measurement], command: str) -> str:
    """The whole table, with how and where it was measured."""
    devices = sorted({f"{m.device}, {m.device.os}, threads: {m.threads}" for m in measurements})
    lines = ["# Networks as files, measured", "", f"Made by `{command}` on {'; '.join(devices)}."]
    lines += ["Untrained networks of the zoo: what they cost, not how good they are.", "", f"{NOTE} {VERDICT}", ""]
    lines += [f"| {' | '.join(HEADINGS)} |", f"|{' --- |' * 5}{' ---: |' * 9} --- |"]
    for measurement in measurements:
        counts = (
            "–" if measurement.params is None else f"{measurement.params / 1e6:.3f}",
            "–" if measurement.mult_adds is None else f"{measurement.mult_adds / 1e6:,.1f}",
        )
        for position, cells in enumerate(_rows(measurement)):
            head = (label(measurement), str(measurement.input), *counts) if position == 0 else ("",) * 4
            lines.append(f"| {' | '.join((*head, *cells))} |")
    remarks = [f"- {line}" for measurement in measurements for line in verdicts(measurement)]
    lines += ["", *remarks] if remarks else []
    missing = [name for name in zoo.specs() if name not in {m.model for m in measurements}]
    if missing:
        lines += ["", f"Not measured here: {', '.join(missing)}."]
    return "\n".join(lines) + "\n"


def verdicts(measurement: Measurement) -> list[str]:
    """Return a line for each file whose verdict is not "good", with what was found."""
    return [
        f"{label(measurement)} {measurement.input}, {file.target} {file.precision}: {file.comparison.word}. "
        + " ".join(file.comparison.findings)
        for file in measurement.files
        if file.comparison.word not in (None, "good")
    ]


def label(measurement: Measurement) -> str:
    """The model's name, with the options that are not its defaults."""
    defaults = zoo.get(measurement.model).with_defaults({}) if measurement.model in zoo.specs() else {}
    changed = [f"{name} {value}" for name, value in measurement.options.items() if defaults.get(name) != value]
    return f"{measurement.model} ({', '.join(changed)})" if changed else measurement.model


def _rows(measurement: Measurement) -> Iterator[tuple[str, ...]]:
    """Target, sizes, nearness, delegation and latency of its fp32 and int8 file, and the ratio of the latencies."""
    for target, files in groupby(sorted(measurement.files, key=lambda f: f.target), key=lambda f: f.target):
        pair = {file.precision: file for file in files}
        one, other = pair.get("fp32"), pair.get("int8")
        yield (
            target,
            *(_cell(file, lambda f: f"{f.bytes / 1e6:.2f}") for file in (one, other)),
            _cell(one, lambda f: decibels(f.comparison.sqnr_float_db)),
            _cell(other, lambda f: decibels(f.comparison.sqnr_graph_db)),
            *(_both(_cell(one, cell), _cell(other, cell)) for cell in (_share, _parts)),
            *(_cell(file, _milliseconds) for file in (one, other)),
            _ratio(one, other),
            _both(_cell(one, _verdict), _cell(other, _verdict)),
        )


def _cell(file: FileMeasurement | None, of: Callable[[FileMeasurement], str]) -> str:
    return "–" if file is None else of(file)


def _both(one: str, other: str) -> str:
    """One value where both files agree."""
    return one if one == other else f"{one}/{other}"


def _verdict(file: FileMeasurement) -> str:
    """Return the word, and of how many images both networks put into the same class."""
    agreement = file.comparison.agreement_float
    return "–" if agreement is None else f"{file.comparison.word}, {100 * agreement:.0f} %"


def _share(file: FileMeasurement) -> str:
    return f"{100 * file.delegated.share:.4g}" if file.delegated else "–"


def _parts(file: FileMeasurement) -> str:
    return str(file.delegated.partitions) if file.delegated else "–"


def _milliseconds(file: FileMeasurement) -> str:
    if file.p50_ms is None:
        return "not run"
    return f"{file.p50_ms:,.0f}" if file.p50_ms >= 100 else f"{file.p50_ms:.3g}"


def _ratio(one: FileMeasurement | None, other: FileMeasurement | None) -> str:
    """How many times faster the int8 file is, or slower."""
    if one is None or other is None or not one.p50_ms or not other.p50_ms:
        return "–"
    ratio = one.p50_ms / other.p50_ms
    return f"{ratio:.2f}× faster" if ratio >= 1 else f"{1 / ratio:.2f}× slower"
