"""A bundle as people read it: what was written, how good it is, and what to type next."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from rich.markup import escape

from edge_apps.console import Line, Part, table
from edge_apps.runtime.manifest import Bundle, FileComparison
from pipeline.bundles.reopen import rebuild
from pipeline.graphs.outputs import EXPLANATIONS
from pipeline.metrics.numbers import decibels
from pipeline.quantization.calibrate import effects


def show_bundle(bundle: Bundle, program: str) -> Iterator[Part]:
    """Yield a table of the files, what repairs did, and what to type next; ``program`` is how to type this one."""
    shown = table()
    shown.add_column("\nfile", overflow="fold")
    shown.add_column("\nMB", justify="right", no_wrap=True)
    shown.add_column("\nverdict", no_wrap=True)
    for column in ("vs float\ndB", "agree-\nment %", "vs own\ngraph dB", "mult-adds\ndelegated", "in\nparts"):
        shown.add_column(column, justify="right", no_wrap=True)
    for file in bundle.models():
        compared, delegated = file.comparison, file.delegated
        shown.add_row(
            escape(file.path),
            f"{file.bytes / 1e6:.2f}",
            _verdict(compared),
            "–" if compared.collapsed else decibels(compared.sqnr_float_db),
            _percent(compared.agreement_float),
            "–" if compared.collapsed else decibels(compared.sqnr_graph_db),
            f"{delegated.share:.1%}" if delegated else "–",
            str(delegated.partitions) if delegated else "–",
        )
    yield Line(f"Bundle {bundle.root}")  # as a title it would wrap with the table
    yield shown
    rebuilt = rebuild(bundle)
    yield from map(Line, (*_remarks(bundle), *(effects(rebuilt.ranges) if rebuilt else ())))
    yield Line(f"Next: {program} evaluate {shlex.quote(str(bundle.root))} `data=…`")


_STYLES = {"good": "green", "check": "yellow", "bad": "red"}


def _verdict(compared: FileComparison) -> str:
    if compared.word is None:
        return "[dim]not run[/]" if compared.status == "not run" else "–"
    return f"[{_STYLES[compared.word]}]{compared.word}[/]"


def _remarks(bundle: Bundle) -> Iterator[str]:
    """What the table does not say: on which images files were judged, by what, and why one is not good."""
    files = bundle.models()
    run = [file.comparison for file in files if file.comparison.status == "run"]
    if run:
        by = ", ".join(dict.fromkeys(str(compared.runtime) for compared in run))
        few = "" if run[0].enough_images else " So few images make the figures indicative."
        yield f"Judged on {run[0].images} {JUDGED_ON[run[0].judged_on]}, by {by}.{few}"
    if bundle.manifest.output != "logits":
        yield EXPLANATIONS[bundle.manifest.output]
    yield from bundle.manifest.findings
    yield from dict.fromkeys(file.comparison.reason for file in files if file.comparison.status == "not run")
    for file in files:
        for finding in file.comparison.findings:
            kept = " Kept because of `allow_mismatch`." if file.comparison.allowed else ""
            yield f"{file.path} {finding}.{kept}"
        if file.float_operators:
            yield f"{file.path}: in float: {_some(file.float_operators)}"
        if file.delegated and file.delegated.left_out:
            left = ", ".join(f"{name} ×{count}" for name, count in file.delegated.left_out.items())
            yield f"{file.path}: outside the delegate: {left}"


JUDGED_ON = {
    "held-out": "images that calibrated nothing",
    "calibration": "of the calibration images (the data has too few to hold any back)",
    "noise": "images of noise (no `data` was given)",
    None: "images",
}


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:MOST_NAMES])
    return shown if len(names) <= MOST_NAMES else f"{shown} and {len(names) - MOST_NAMES} more"


MOST_NAMES = 8


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f}"
