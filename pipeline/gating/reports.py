"""The gate's verdict for other programs: JUnit XML for CI dashboards, Markdown for a summary page."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from pipeline.evaluation.results import Drift
from pipeline.evaluation.show import about_data
from pipeline.gating.judge import FileVerdict, GateResult
from pipeline.gating.refused import cell, clean, document
from pipeline.gating.show import name_flagged
from pipeline.metrics.numbers import decibels, drop_with_interval, percent, signed

# What a dashboard shows for each verdict. Undecided must not look green: it is an error, as is a file that was not run.
_ELEMENTS = {"failed": "failure", "undecided": "error", "not run": "error", "not run (allowed)": "skipped"}

_MARKS = {"passed": "✅", "failed": "❌", "undecided": "❓", "not run": "❓", "not run (allowed)": "➖"}


def junit(result: GateResult) -> bytes:
    """One test case per file, and one for the gate as a whole where its verdict is no file's."""
    cases = [
        _case(file.path, file.target or "file", file.verdict, " ".join((file.message, *file.notes)))
        for file in result.files
    ]
    if result.verdict == "undecided" and not any(_is_open(file) for file in result.files):
        cases.append(_case("the whole gate", "gate", "undecided", result.message))
    counts = {kind: str(sum(case.find(kind) is not None for case in cases)) for kind in ("failure", "error", "skipped")}
    suite = ET.Element(
        "testsuite",
        name="pipeline gate",
        tests=str(len(cases)),
        failures=counts["failure"],
        errors=counts["error"],
        skipped=counts["skipped"],
    )
    properties = ET.SubElement(suite, "properties")
    evaluation = result.evaluation
    for name, value in (
        ("data", evaluation.data),
        ("data_sha256", evaluation.data_sha256),
        ("images", str(evaluation.images)),
        ("classes", evaluation.covered()),
        ("against", evaluation.against or "the float network"),
        ("max_drop_points", str(result.policy.max_drop)),
        ("class_drop_points", str(result.policy.class_drop)),
        ("confidence", str(result.policy.confidence)),
        ("verdict", result.verdict),
        *((f"drift of {file.path}", _drift(file.drift)) for file in evaluation.files if file.drift is not None),
        *(("note", note) for note in (*about_data(evaluation), *result.notes)),
    ):
        ET.SubElement(properties, "property", name=clean(name), value=clean(value))
    suite.extend(cases)
    return document(suite)


def markdown(result: GateResult) -> bytes:
    """A heading with the verdict, a table with a row per file, and why each file that did not pass did not.

    Then every class that was flagged, and what there is to know of the gate itself.
    """
    evaluation, reference = result.evaluation, result.evaluation.reference
    lines = [f"## {_MARKS[result.verdict]} {cell(result.message)}", ""]
    about = f"{cell(evaluation.data)}: {evaluation.images} images, {evaluation.covered()}."
    if reference is not None:
        about += f" Float network: top-1 {percent(reference.top1)} %."
    if evaluation.against is not None:
        about += f" Each file against that of `{cell(evaluation.against)}`."
    lines += [about, ""]
    lines.append(
        f"| verdict | file | target | precision | top-1 % | drop, points [{100 * result.policy.confidence:g} %] "
        "| flagged classes | own graph |"
    )
    lines.append("| --- | --- | --- | --- | ---: | ---: | --- | ---: |")
    for file, verdict in zip(evaluation.files, result.files, strict=True):
        drop = "–"
        if verdict.drop_points is not None and verdict.interval_points is not None:
            drop = drop_with_interval(verdict.drop_points, verdict.interval_points)
        cells = (
            f"{_MARKS[verdict.verdict]} {verdict.verdict}",
            f"`{cell(file.path)}`",
            file.target or "–",
            file.precision or "–",
            percent(file.top1),
            drop,
            cell(name_flagged(verdict.classes)) if verdict.classes is not None and verdict.classes.flagged else "–",
            "–" if file.drift is None else _drift(file.drift),
        )
        lines.append(f"| {' | '.join(cells)} |")
    reasons = [f"- `{cell(file.path)}`: {cell(file.message)}" for file in result.files if file.verdict != "passed"]
    reasons += [f"- `{cell(file.path)}`: {cell(note)}" for file in result.files for note in file.notes]
    reasons += [f"- {cell(note)}" for note in (*about_data(evaluation), *result.notes)]
    if reasons:
        lines += ["", *reasons]
    lines += _classes(result)
    return ("\n".join(lines) + "\n").encode()


def _classes(result: GateResult) -> list[str]:
    """Every flagged class of every file."""
    rows = [
        f"| {cell(loss.label)} | `{cell(file.path)}` | {loss.images} | {loss.before:.1f} | {loss.after:.1f} "
        f"| {loss.points:.1f} | {loss.holm_p:.2g} |"
        for file in result.files
        if file.classes is not None
        for loss in file.classes.flagged
    ]
    if not rows:
        return []
    head = "| flagged class | file | images | before % | after % | points lost | Holm p |"
    return ["", head, "| --- | --- | ---: | ---: | ---: | ---: | ---: |", *rows]


def _drift(drift: Drift) -> str:
    """As ``47.8 dB, 99.90 %, drift +0.02``."""
    nearness = "equal" if decibels(drift.sqnr_db) == "equal" else f"{decibels(drift.sqnr_db)} dB"
    return f"{nearness}, {percent(drift.agreement)} %, drift {signed(drift.drop_points)}"


def _case(name: str, group: str, verdict: str, message: str) -> ET.Element:
    case = ET.Element("testcase", classname=f"gate.{clean(group)}", name=clean(name))
    if verdict in _ELEMENTS:
        ET.SubElement(case, _ELEMENTS[verdict], message=clean(message), type=verdict)
    else:
        ET.SubElement(case, "system-out").text = clean(message)
    return case


def _is_open(file: FileVerdict) -> bool:
    return file.verdict in ("undecided", "not run")
